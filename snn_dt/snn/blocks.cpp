// A stack of transformer blocks, dense or spiking, for the last token only: what one decision needs.
//
// B sequences of L tokens of width D; x [B, L, D] is the residual stream and is overwritten. Each block's weights are 13
// pairs (scale, shift of a norm or packed matrix, bias), in the order of `Part`; a block has neurons where HIDDEN_NORM is
// not null, and routing where ROUTE is not. All that a token needs of others are their keys and values, so threads meet once per block: in phase l an
// item, which is a part of a sequence, finishes block l - 1 and makes queries, keys and values of block l.

#include "products.h"

#include "rate.h"

#include <numeric>

namespace {

enum Part {
    NORM_IN, QUERY, KEY_VALUE, Q_NORM, K_NORM, V_NORM, ROUTE, OUT_NORM, OUT, MLP_NORM, UP, HIDDEN_NORM, DOWN, PARTS
};
struct Pair {
    const float *first, *second;
};

struct Shape {
    int64_t batch, length, width, hidden, heads, layers, sim_steps;
    double eps, scale, gain;  // scores are scaled before the softmax, its mix of values after it
};

// exp(x) for x <= 0, to about 1e-7 of it; below -87 it stays at exp(-87).
inline Reg exponential(Reg x) {
    typedef int32_t Ints __attribute__((vector_size(sizeof(Reg))));
    x = x > -87.0f ? x : all(-87.0f);
    const Reg magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, in the lowest bits
    const Reg t = multiply_add<float>(x, all(1.44269504f), magic), n = t - magic;
    const Reg r = multiply_add<float>(n, all(2.12194440e-4f), multiply_add<float>(n, all(-0.693359375f), x));
    Reg p = all(1.9875691500e-4f);
    for (const float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        p = multiply_add<float>(p, r, all(c));
    p = multiply_add<float>(p * r, r, r) + 1.0f;
    return (Reg)((Ints)p + (((Ints)t - (Ints)magic) << 23));
}

inline float dot(const float* x, const float* y, int64_t width) {
    Reg parts[2] = {};
    int64_t j = 0;
    for (; j + 2 * WIDTH <= width; j += 2 * WIDTH) {
        parts[0] = multiply_add<float>(load(x + j), load(y + j), parts[0]);
        parts[1] = multiply_add<float>(load(x + j + WIDTH), load(y + j + WIDTH), parts[1]);
    }
    float rest = 0;
    for (; j < width; ++j) rest += x[j] * y[j];
    return sum<float>(parts[0] + parts[1]) + rest;
}

inline void add(float* to, const float* x, int64_t n) {
    for (int64_t j = 0; j < n; ++j) to[j] += x[j];
}

template <bool SPIKING, bool Z>
struct Stack {
    Shape s;
    const Pair* weights;
    Firing<float, Z> fire;
    const uint8_t* real;  // [B, L]
    float *x, *q, *kv;    // [B, L, D], [2, B, L, D], [2, B, L, 2 D]: a block's keys are read while the next's are made

    Pair part(int64_t layer, Part p) const { return weights[layer * PARTS + p]; }
    float* queries(int64_t layer) const { return q + layer % 2 * s.batch * s.length * s.width; }
    float* keys(int64_t layer) const { return kv + layer % 2 * s.batch * s.length * 2 * s.width; }

    void product(const float* from, Pair w, float* to, int64_t rows, int64_t k, int64_t m) const {
        if constexpr (SPIKING) return sparse_product(from, w.first, w.second, to, rows, k, m);
        dense_product(from, w.first, w.second, to, rows, k, m);
    }

    // Rows `stride` apart through a norm, and through neurons if there are any.
    void norm(const float* from, Pair w, float* to, int64_t rows, int64_t width, int64_t stride) const {
        for (int64_t r = 0; r < rows; ++r, from += stride, to += stride) {
            float stats[2];
            moments(from, width, float(s.eps), stats);
            normalise(from, stats, w.first, w.second, to, width);
            if constexpr (SPIKING) fire(to, to, width);
        }
    }

    void start(int64_t layer, int64_t b, int64_t first, int64_t end, float* scratch) const {
        const int64_t D = s.width, rows = end - first;
        float *own_q = queries(layer) + (b * s.length + first) * D, *own_kv = keys(layer) + (b * s.length + first) * 2 * D;
        norm(x + (b * s.length + first) * D, part(layer, NORM_IN), scratch, rows, D, D);
        product(scratch, part(layer, KEY_VALUE), own_kv, rows, D, 2 * D);
        const int64_t skip = layer + 1 < s.layers ? 0 : std::clamp(s.length - 1 - first, int64_t(0), rows);
        product(scratch + skip * D, part(layer, QUERY), own_q + skip * D, rows - skip, D, D);
        if constexpr (SPIKING) {
            norm(own_q + skip * D, part(layer, Q_NORM), own_q + skip * D, rows - skip, D, D);
            norm(own_kv, part(layer, K_NORM), own_kv, rows, D, 2 * D);
            norm(own_kv + D, part(layer, V_NORM), own_kv + D, rows, D, 2 * D);
        }
    }

    // What token i of a sequence takes from itself and the real tokens before it.
    void attend(int64_t layer, int64_t b, int64_t i, int64_t begin, float* scores, float* to) const {
        const int64_t D = s.width, d = D / s.heads;
        const float *own = queries(layer) + (b * s.length + i) * D, *all_keys = keys(layer) + b * s.length * 2 * D;
        thread_local std::vector<int32_t> at;  // where the keys of the tokens it sees are
        at.clear();
        for (int64_t j = begin; j <= i; ++j)
            if (real[b * s.length + j] || j == i) at.push_back(int32_t(j * 2 * D));
        const int64_t n = int64_t(at.size());
        std::fill_n(to, D, 0.0f);
        for (int64_t h = 0; h < s.heads; ++h) {
            float highest = -INFINITY, total = 0;
            for (int64_t e = 0; e < n; ++e) {
                scores[e] = float(s.scale) * dot(own + h * d, all_keys + at[e] + h * d, d);
                highest = std::max(highest, scores[e]);
            }
            for (int64_t e = 0; e < n; e += WIDTH) put(scores + e, exponential(load(scores + e) - highest));
            for (int64_t e = 0; e < n; ++e) total += scores[e];
            for (int64_t e = 0; e < n; ++e) scores[e] *= float(s.gain) / total;
            for (int64_t c = h * d; c < (h + 1) * d; c += PANEL)
                add_listed(all_keys + D + c, at.data(), scores, n, to + c, to + c, (h + 1) * d - c);
        }
    }

    // Heads meet, each through a gate: `sum_h alpha_h y_h`, alpha = sigmoid(W mean(y_h) + b), D / H wide. `to` may be y.
    void route(Pair gate, const float* y, float* to) const {
        const int64_t H = s.heads, d = s.width / H;
        thread_local std::vector<float> means, alpha;
        means.resize(H);
        alpha.resize(H);
        for (int64_t h = 0; h < H; ++h) means[h] = std::accumulate(y + h * d, y + (h + 1) * d, 0.0f) / d;
        for (int64_t h = 0; h < H; ++h) {
            const float z = std::inner_product(means.begin(), means.end(), gate.first + h * H, gate.second[h]);
            alpha[h] = 1 / (1 + std::exp(-z));
        }
        for (int64_t j = 0; j < d; ++j) {
            float total = 0;
            for (int64_t h = 0; h < H; ++h) total += alpha[h] * y[h * d + j];
            to[j] = total;
        }
    }

    void finish(int64_t layer, int64_t b, int64_t begin, int64_t first, int64_t end, float* scratch) const {
        const int64_t D = s.width, rows = end - first, most = s.length * std::max(D, s.hidden);
        float *own = x + (b * s.length + first) * D, *in = scratch, *out = scratch + most, *scores = out + most;
        const Pair gate = part(layer, ROUTE);
        const int64_t meeting = gate.first ? D / s.heads : D;
        for (int64_t i = 0; i < rows; ++i) {
            attend(layer, b, first + i, begin, scores, in + i * D);
            if (gate.first) route(gate, in + i * D, in + i * meeting);
        }
        if constexpr (SPIKING) norm(in, part(layer, OUT_NORM), in, rows, meeting, meeting);
        product(in, part(layer, OUT), out, rows, meeting, D);
        add(own, out, rows * D);
        norm(own, part(layer, MLP_NORM), in, rows, D, D);
        product(in, part(layer, UP), out, rows, D, s.hidden);
        if constexpr (SPIKING)
            norm(out, part(layer, HIDDEN_NORM), out, rows, s.hidden, s.hidden);
        else
            for (int64_t j = 0; j < rows * s.hidden; ++j) out[j] = std::max(out[j], 0.0f);
        product(out, part(layer, DOWN), in, rows, s.hidden, D);
        add(own, in, rows * D);
    }

    void item(int64_t layer, int64_t b, int64_t part, int64_t parts) const {
        thread_local std::vector<float> scratch;
        scratch.resize(2 * s.length * std::max(s.width, s.hidden) + s.length + WIDTH);
        int64_t begin = 0;  // pads come first: nobody reads them
        while (begin < s.length - 1 && !real[b * s.length + begin]) ++begin;
        const int64_t tokens = s.length - begin, first = begin + tokens * part / parts;
        const int64_t end = begin + tokens * (part + 1) / parts;
        if (first == end) return;
        if (layer == s.layers && end == s.length) finish(layer - 1, b, begin, end - 1, end, scratch.data());
        if (layer == s.layers) return;
        if (layer > 0) finish(layer - 1, b, begin, first, end, scratch.data());
        start(layer, b, first, end, scratch.data());
    }

    void run(int threads) const {
        const int64_t parts = (threads + s.batch - 1) / s.batch;
#pragma omp parallel num_threads(threads)
        for (int64_t layer = 0; layer <= s.layers; ++layer) {
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < s.batch * parts; ++i) item(layer, i / parts, i % parts, parts);
        }
    }
};

}  // namespace

extern "C" void last_token_f32(float* x, const uint8_t* real, const float* const* weights, float* q, float* kv,
                               const Shape* shape, const Constants* c, int threads) {
    const auto* pairs = reinterpret_cast<const Pair*>(weights);
    const auto run = [&](auto spiking, auto zero) {
        const Firing<float, zero> fire(shape->sim_steps, Neuron<float, zero>(*c));
        Stack<spiking, zero>{*shape, pairs, fire, real, x, q, kv}.run(threads);
    };
    if (!pairs[HIDDEN_NORM].first) return run(std::false_type{}, std::true_type{});
    specialised(*c, [&](auto, auto zero) { run(std::true_type{}, zero); });
}
