// A linear layer fed by spikes, which are mostly zeros, and the gradient of its weight. Layout: products.h.

#include "products.h"

#include "neuron.h"

namespace {

// by_w [k, m] += x^T g and by_b [m] += sum of g over some tokens: x [n, k], g [n, m].
void weight_gradient(const float* x, const float* g, float* by_w, float* by_b, int64_t n, int64_t k, int64_t m) {
    thread_local Sparse row, column;
    alignas(64) float panel[DEPTH * PANEL] = {};
    for (int64_t first = 0; first < n; first += DEPTH) {
        const int64_t tokens = std::min(DEPTH, n - first);
        for (int64_t k0 = 0; k0 < k; k0 += DEPTH) {
            const int64_t inputs = std::min(DEPTH, k - k0);
            std::fill_n(column.count, inputs, 0);
            for (int64_t t = 0; t < tokens; ++t) {  // what each token is fed by -> which tokens each input feeds
                const int64_t fired = compact(x + (first + t) * k + k0, inputs, row.at.data(), row.value.data());
                for (int64_t e = 0; e < fired; ++e) {
                    const int64_t i = row.at[e] / PANEL, to = i * LIST + column.count[i]++;
                    column.at[to] = int32_t(t * PANEL);
                    column.value[to] = row.value[e];
                }
            }
            for (int64_t p = 0; p < m; p += PANEL) {
                const int64_t columns = std::min(PANEL, m - p);
                for (int64_t t = 0; t < tokens; ++t) std::copy_n(g + (first + t) * m + p, columns, panel + t * PANEL);
                for (int64_t i = 0; i < inputs; ++i) {
                    float* to = by_w + (k0 + i) * m + p;
                    add_listed(panel, &column.at[i * LIST], &column.value[i * LIST], column.count[i], to, to, columns);
                }
                if (k0) continue;
                for (int64_t t = 0; t < tokens; ++t)
                    for (int64_t c = 0; c < columns; ++c) by_b[p + c] += panel[t * PANEL + c];
            }
        }
    }
}

}  // namespace

extern "C" void pack_weight_f32(const float* w, float* packed, int64_t k, int64_t m, int64_t dense, int) {
    pack(w, packed, k, m, dense ? DENSE_PANEL : PANEL);
}

extern "C" void spike_linear_f32(const float* x, const float* packed, const float* bias, float* y, int64_t n, int64_t k,
                                 int64_t m, int threads) {
    for_blocks(n, TOGETHER, n * k, threads,
               [=](int64_t first, int64_t rows) { sparse_product(x + first * k, packed, bias, y + first * m, rows, k, m); });
}

// by_w [threads, k, m] and by_b [threads, m], zeros: each thread's part of the gradients.
extern "C" void spike_linear_backward_f32(const float* x, const float* g, float* by_w, float* by_b, int64_t n, int64_t k,
                                          int64_t m, int threads) {
    const int64_t share = ((n + threads - 1) / threads + DEPTH - 1) / DEPTH * DEPTH;
    for_blocks(n, share, n * k, threads, [=](int64_t first, int64_t tokens) {
        const int64_t part = first / share;
        weight_gradient(x + first * k, g + first * m, by_w + part * k * m, by_b + part * m, tokens, k, m);
    });
}

namespace {

typedef uint32_t Words __attribute__((vector_size(REGISTER)));

// No two inputs give one result for the same h, nor two h for the same input: a single number that changes is always seen.
inline Words mixed(Words h, Words x) {
    h = (h ^ x) * 0x9E3779B1u;
    return h ^ (h >> 15);
}

}  // namespace

// sum [64 bytes]: what n arrays of `bytes` hold, in short. Reads the first line of a register of each, and one of so many
// `parts` of all their lines: that is one stretch of memory or two, while lines far apart are fetched one by one.
extern "C" void checksum_f32(const void* const* arrays, const int64_t* bytes, void* sum, int64_t n, int64_t part,
                             int64_t parts, int threads) {
    const auto lines = [&](int64_t i) { return (bytes[i] + REGISTER - 1) / REGISTER; };
    std::vector<int64_t> before(n + 1);
    for (int64_t i = 0; i < n; ++i) before[i + 1] = before[i] + lines(i);
    const int64_t begin = before[n] * part / parts, end = before[n] * (part + 1) / parts;
    std::vector<Words> sums(n);
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1 && end - begin > (1 << 21) / REGISTER)
    for (int64_t i = 0; i < n; ++i) {
        constexpr int64_t together = 8, block = together * REGISTER;  // each waits for its own last step
        const char* from = static_cast<const char*>(arrays[i]);
        int64_t at = std::clamp(begin - before[i], int64_t(0), lines(i)) * REGISTER;
        const int64_t stop = std::min(std::clamp(end - before[i], int64_t(0), lines(i)) * REGISTER, bytes[i]);
        Words h[together] = {}, whole = {};
        if (at > 0 || stop == 0) std::memcpy(&whole, from, std::min(REGISTER, bytes[i]));
        for (; at + block <= stop; at += block)
            for (int64_t k = 0; k < together; ++k) {
                Words x;
                std::memcpy(&x, from + at + k * REGISTER, REGISTER);
                h[k] = mixed(h[k], x);
            }
        for (int64_t k = 0; at < stop; ++k, at += REGISTER) {
            Words x = {};
            std::memcpy(&x, from + at, std::min(REGISTER, stop - at));
            h[k % together] = mixed(h[k % together], x);
        }
        for (int64_t k = 0; k < together; ++k) whole = mixed(whole, h[k]);
        sums[i] = whole;
    }
    Words all = {};
    for (int64_t i = 0; i < n; ++i) all = mixed(all, sums[i]);
    std::memcpy(sum, &all, REGISTER);
}
