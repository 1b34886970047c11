// The neuron that all kernels share: constants, surrogate derivative, one step, blocks of neurons over threads.

#pragma once

#include "lanes.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

namespace {

// Coefficients in parameters.py. Every reset is V = s ? keep h + add : h; `attach` is 0 when it is detached.
struct Constants {
    double leak, gain, v_rest, v_threshold, slope, keep, add, attach;
    int32_t surrogate;
};

enum Surrogate { FAST_SIGMOID, SIGMOID, TRIANGLE, ARCTAN, RECTANGULAR };

template <int S, class F>
inline Vec<F> psi(Vec<F> u, F k) {
    if constexpr (S == FAST_SIGMOID) {
        const Vec<F> y = reciprocal<F>(multiply_add<F>(all(k), absolute<F>(u), all(F(1))));
        return y * y;
    }
    const Vec<F> a = k * absolute<F>(u);
    if constexpr (S == TRIANGLE) return a < F(1) ? F(1) - a : Vec<F>{};
    if constexpr (S == ARCTAN) return reciprocal<F>(multiply_add<F>(a, a, all(F(1))));
    if constexpr (S == RECTANGULAR) return a <= F(1) ? all(F(1)) : Vec<F>{};
    Vec<F> e;
    for (int64_t i = 0; i < LANES<F>; ++i) e[i] = std::exp(-a[i]);
    return F(4) * e / ((F(1) + e) * (F(1) + e));  // 4 y (1 - y) is even in u
}

// TO_ZERO: a hard reset to a rest at 0, the usual neuron, takes a third of the operations less, to the same bits.
template <class F, bool TO_ZERO = false>
struct Neuron {
    using V = Vec<F>;
    F leak, decay, gain, v_rest, v_threshold, slope, keep, add, by_spike_1, by_spike_u;
    explicit Neuron(const Constants& c)
        : leak(F(c.leak)), decay(F(1.0 - c.leak)), gain(F(c.gain)), v_rest(F(c.v_rest)), v_threshold(F(c.v_threshold)),
          slope(F(c.slope)), keep(F(c.keep)), add(F(c.add)),
          by_spike_1(F(c.attach * (c.add + (c.keep - 1.0) * c.v_threshold))), by_spike_u(F(c.attach * (c.keep - 1.0))) {}

    V drive(V current) const {  // gain * current, held where no membrane overflows: `drive` in reference.py
        const V most = all(F(1e30)), d = gain * current, below = d > most ? most : d;
        return below < -most ? -most : below;
    }
    V charge(V v, V drive) const {
        if constexpr (TO_ZERO) return (v - leak * v) + drive;
        return (v + leak * (v_rest - v)) + drive;
    }
    V after(V h, V u) const {  // u = h - V_th
        if constexpr (TO_ZERO) return u >= F(0) ? V{} : h;
        return u >= F(0) ? keep * h + add : h;
    }
    V by_h(V u, V g) const {  // g dV/dh with s held
        if constexpr (TO_ZERO) return u >= F(0) ? V{} : g;
        return u >= F(0) ? keep * g : g;
    }
    V by_spike(V u) const { return multiply_add<F>(all(by_spike_u), u, all(by_spike_1)); }  // dV/ds with h held
};

// Calls call(S, Z) with the constants' surrogate and TO_ZERO as types.
template <class Call>
void specialised(const Constants& c, Call call) {
    const auto with = [&](auto s) {
        if (c.keep == 0 && c.add == 0 && c.v_rest == 0) return call(s, std::true_type{});
        call(s, std::false_type{});
    };
    switch (c.surrogate) {
        case FAST_SIGMOID: return with(std::integral_constant<int, FAST_SIGMOID>{});
        case SIGMOID: return with(std::integral_constant<int, SIGMOID>{});
        case TRIANGLE: return with(std::integral_constant<int, TRIANGLE>{});
        case ARCTAN: return with(std::integral_constant<int, ARCTAN>{});
        default: return with(std::integral_constant<int, RECTANGULAR>{});
    }
}

// Calls body(first, width) for blocks of at most `most` of the n neurons, in several threads when that pays.
template <class Body>
void for_blocks(int64_t n, int64_t most, int64_t work, int threads, Body body) {
    const int64_t blocks = (n + most - 1) / most;
    // below some 10 us of work a team of threads costs more than it saves
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && blocks > 1 && work > 1 << 15)
    for (int64_t b = 0; b < blocks; ++b) body(b * most, std::min(most, n - b * most));
}

}  // namespace
