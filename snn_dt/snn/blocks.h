// What the kernels of transformer blocks share: the layers of a dense or spiking block on rows of tokens, and attention of
// one query to a list of keys. Layout of the weights: blocks.cpp.

#pragma once

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

// to += sum of weight[e] values[at[e]], d numbers wide.
inline void add_values(const float* values, const int32_t* at, const float* weight, int64_t n, float* to, int64_t d) {
    int64_t c = 0;
    for (; c + PANEL <= d; c += PANEL)
        add_listed(std::make_index_sequence<PANEL / WIDTH>{}, values + c, at, weight, n, to + c, to + c);
    for (; c + WIDTH <= d; c += WIDTH) add_listed(std::index_sequence<0>{}, values + c, at, weight, n, to + c, to + c);
    for (; c < d; ++c)
        for (int64_t e = 0; e < n; ++e) to[c] += weight[e] * values[at[e] + c];
}

template <bool SPIKING, bool Z>
struct Layers {
    Shape s;
    const Pair* weights;
    Firing<float, Z> fire;

    Pair part(int64_t layer, Part p) const { return weights[layer * PARTS + p]; }

    // Three rows take as long to fetch their weights as to multiply them all, zeros too. The sums are the same.
    void product(const float* from, Pair w, float* to, int64_t rows, int64_t k, int64_t m) const {
        if (SPIKING && (PANEL != DENSE_PANEL || rows > 3)) return sparse_product(from, w.first, w.second, to, rows, k, m);
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

    // What a query takes from the keys and values at the offsets `at`; `scores` has room for WIDTH more.
    void attend(const float* query, const float* keys, const float* values, const std::vector<int32_t>& at, float* scores,
                float* to) const {
        const int64_t D = s.width, d = D / s.heads, n = int64_t(at.size());
        std::fill_n(to, D, 0.0f);
        for (int64_t h = 0; h < s.heads; ++h) {
            float highest = -INFINITY, total = 0;
            for (int64_t e = 0; e < n; ++e) {
                scores[e] = float(s.scale) * dot(query + h * d, keys + at[e] + h * d, d);
                highest = std::max(highest, scores[e]);
            }
            for (int64_t e = 0; e < n; e += WIDTH) put(scores + e, exponential(load(scores + e) - highest));
            for (int64_t e = 0; e < n; ++e) total += scores[e];
            for (int64_t e = 0; e < n; ++e) scores[e] *= float(s.gain) / total;
            add_values(values + h * d, at.data(), scores, n, to + h * d, d);
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

    // Residual rows `own` take the branches: `in` holds what they attended to, one row every `width`, heads together.
    void finish(int64_t layer, float* own, float* in, float* out, int64_t rows) const {
        const int64_t D = s.width;
        const Pair gate = part(layer, ROUTE);
        const int64_t meeting = gate.first ? D / s.heads : D;
        for (int64_t i = 0; i < rows && gate.first; ++i) route(gate, in + i * D, in + i * meeting);
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
};

// Calls run(SPIKING, Z) with the kind of blocks and of neurons as types.
template <class Run>
void with_kind(const Pair* pairs, const Constants& c, Run run) {
    if (!pairs[HIDDEN_NORM].first) return run(std::false_type{}, std::true_type{});
    specialised(c, [&](auto, auto zero) { run(std::true_type{}, zero); });
}

}  // namespace
