// LIF over time: the recurrence of reference.py fused over T, for float and double.
//
// Layout: x, s and their gradients [T, N] row-major; v0, v_end and their gradients [N]; for a rate x and all results [N].
// A block of neurons runs through all T steps while its state stays in cache; blocks are spread over threads, the lanes of
// a block over vector registers. Nothing but x and v0 is kept for the backward pass, which recomputes h into a scratch.
//
// Build with -ffp-contract=off: a fused multiply-add rounds differently from torch and flips spikes at the threshold.

#include "lanes.h"

#include <algorithm>
#include <cmath>
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
    const Vec<F> a = k * absolute<F>(u);
    if constexpr (S == FAST_SIGMOID) return F(1) / ((F(1) + a) * (F(1) + a));
    if constexpr (S == TRIANGLE) return a < F(1) ? F(1) - a : Vec<F>{};
    if constexpr (S == ARCTAN) return F(1) / (F(1) + a * a);
    if constexpr (S == RECTANGULAR) return a <= F(1) ? all(F(1)) : Vec<F>{};
    Vec<F> e;
    for (int64_t i = 0; i < LANES<F>; ++i) e[i] = std::exp(-a[i]);
    return F(4) * e / ((F(1) + e) * (F(1) + e));  // 4 y (1 - y) is even in u
}

template <class F>
struct Neuron {
    using V = Vec<F>;
    F leak, decay, gain, v_rest, v_threshold, slope, keep, add, by_spike_1, by_spike_u;
    explicit Neuron(const Constants& c)
        : leak(F(c.leak)), decay(F(1.0 - c.leak)), gain(F(c.gain)), v_rest(F(c.v_rest)), v_threshold(F(c.v_threshold)),
          slope(F(c.slope)), keep(F(c.keep)), add(F(c.add)),
          by_spike_1(F(c.attach * (c.add + (c.keep - 1.0) * c.v_threshold))), by_spike_u(F(c.attach * (c.keep - 1.0))) {}

    V charge(V v, V x) const { return (v + leak * (v_rest - v)) + gain * x; }
    V after(V h) const { return h - v_threshold >= F(0) ? keep * h + add : h; }
    V by_h(V u) const { return u >= F(0) ? all(keep) : all(F(1)); }        // dV/dh with s held, u = h - V_th
    V by_spike(V u) const { return by_spike_1 + by_spike_u * u; }          // dV/ds with h held
};

// Calls body(first, width) for blocks of at most `most` of the n neurons, in several threads when that pays.
template <class Body>
void for_blocks(int64_t n, int64_t most, int64_t work, int threads, Body body) {
    const int64_t blocks = (n + most - 1) / most;
    // below some 10 us of work a team of threads costs more than it saves
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && blocks > 1 && work > 1 << 15)
    for (int64_t b = 0; b < blocks; ++b) body(b * most, std::min(most, n - b * most));
}

// Neurons of a block: what a core's second-level cache holds of `rows` rows, no more than a thread's share.
template <class F>
int64_t block_width(int64_t rows, int64_t n, int threads) {
    const int64_t fits = (int64_t(1) << 19) / (int64_t(sizeof(F)) * std::max<int64_t>(rows, 1));
    const int64_t share = (n + threads - 1) / threads;
    return std::clamp<int64_t>(std::min(fits, share + 63) / 64 * 64, 64, 8192);
}

// Results much larger than a cache go past it, which a row must be aligned for.
template <class F>
bool past_cache(const F* to, int64_t T, int64_t n) {
    const int64_t row = n * int64_t(sizeof(F));
    return T * row >= int64_t(4) << 20 && (reinterpret_cast<uintptr_t>(to) | uint64_t(row)) % 64 == 0;
}

template <class F>
void scan_forward(const F* x, const F* v0, F* s, F* v_end, int64_t T, int64_t n, const Neuron<F>& neuron, int threads) {
    const bool past = past_cache(s, T, n);
    for_blocks(n, block_width<F>(8, n, threads), T * n, threads, [=](int64_t first, int64_t width) {
        const Neuron<F> c = neuron;  // a local: stores through F* cannot change it
        F* v = v_end + first;
        for (int64_t j = 0; j < width; ++j) v[j] = v0 ? v0[first + j] : c.v_rest;
        for (int64_t t = 0; t < T; ++t) {
            const F *x_t = x + t * n + first, *next = t + 1 < T ? x_t + n : x_t;
            F* s_t = s + t * n + first;
            for_lanes<F>(width, [=](int64_t j, int64_t m) {
                __builtin_prefetch(next + j, 0, 2);  // rows lie n numbers apart, where no hardware prefetcher looks
                const Vec<F> h = c.charge(get(v + j, m), get(x_t + j, m));
                const Vec<F> spikes = h - c.v_threshold >= F(0) ? all(F(1)) : Vec<F>{};
                past && m == LANES<F> ? put_past_cache(s_t + j, spikes) : put(s_t + j, spikes, m);
                put(v + j, c.after(h), m);
            });
        }
        if (past) fence();
    });
}

template <int S, class F>
void scan_backward(const F* x, const F* v0, const F* gs, const F* gv_end, F* gx, F* gv0, int64_t T, int64_t n,
                   const Neuron<F>& neuron, int threads) {
    const bool past = past_cache(gx, T, n);
    const int64_t most = block_width<F>(T, n, threads);
    for_blocks(n, most, T * n, threads, [=](int64_t first, int64_t width) {
        const Neuron<F> c = neuron;
        thread_local std::vector<F> scratch;
        scratch.resize(std::max<size_t>(scratch.size(), (T + 2) * most));
        F *u = scratch.data(), *v = u + T * most, *gv = v + most;
        for (int64_t j = 0; j < width; ++j) v[j] = v0 ? v0[first + j] : c.v_rest;
        for (int64_t j = 0; j < width; ++j) gv[j] = gv_end ? gv_end[first + j] : F(0);
        for (int64_t t = 0; t < T; ++t) {
            const F *x_t = x + t * n + first, *next = t + 1 < T ? x_t + n : gs ? gs + t * n + first : x_t;
            F* u_t = u + t * most;
            for_lanes<F>(width, [=](int64_t j, int64_t m) {
                __builtin_prefetch(next + j, 0, 2);
                const Vec<F> h = c.charge(get(v + j), get(x_t + j, m));
                put(u_t + j, h - c.v_threshold);
                put(v + j, c.after(h));
            });
        }
        for (int64_t t = T - 1; t >= 0; --t) {
            const F *gs_t = gs ? gs + t * n + first : nullptr, *next = gs && t > 0 ? gs_t - n : x, *u_t = u + t * most;
            F* gx_t = gx + t * n + first;
            for_lanes<F>(width, [=](int64_t j, int64_t m) {
                __builtin_prefetch(next + j, 0, 2);
                const Vec<F> u = get(u_t + j), g = get(gv + j);
                const Vec<F> by_s = (gs_t ? get(gs_t + j, m) : Vec<F>{}) + c.by_spike(u) * g;
                const Vec<F> gh = c.by_h(u) * g + psi<S>(u, c.slope) * by_s;
                past && m == LANES<F> ? put_past_cache(gx_t + j, c.gain * gh) : put(gx_t + j, c.gain * gh, m);
                put(gv + j, c.decay * gh);
            });
        }
        if (gv0) std::copy(gv, gv + width, gv0 + first);
        if (past) fence();
    });
}

// The current is constant, so a rate is a function of one number and its derivative can ride along, forward.
template <int S, bool DERIVATIVE, class F>
void rate_forward(const F* x, F* rate, F* by_x, int64_t T, int64_t n, const Neuron<F>& neuron, int threads) {
    constexpr int64_t most = 256, vectors = most / LANES<F>;
    for_blocks(n, most, T * n, threads, [=](int64_t first, int64_t width) {
        const Neuron<F> c = neuron;
        Vec<F> drive[vectors], v[vectors], dv[vectors] = {}, spikes[vectors] = {}, dspikes[vectors] = {};
        for_lanes<F>(width, [&](int64_t j, int64_t m) { drive[j / LANES<F>] = c.gain * get(x + first + j, m); });
        std::fill_n(v, vectors, all(c.v_rest));
        for (int64_t t = 0; t < T; ++t) {
            for (int64_t i = 0; i < vectors; ++i) {  // many at a time, since each waits for its own last step
                const Vec<F> h = (v[i] + c.leak * (c.v_rest - v[i])) + drive[i], u = h - c.v_threshold;
                spikes[i] += u >= F(0) ? all(F(1)) : Vec<F>{};
                v[i] = c.after(h);
                if constexpr (DERIVATIVE) {
                    const Vec<F> dh = c.decay * dv[i] + c.gain, ds = psi<S>(u, c.slope) * dh;
                    dspikes[i] += ds;
                    dv[i] = c.by_h(u) * dh + c.by_spike(u) * ds;
                }
            }
        }
        for_lanes<F>(width, [&](int64_t j, int64_t m) {
            put(rate + first + j, spikes[j / LANES<F>] / F(T), m);
            if constexpr (DERIVATIVE) put(by_x + first + j, dspikes[j / LANES<F>] / F(T), m);
        });
    });
}

}  // namespace

#define WITH_SURROGATE(call)                                                \
    switch (c->surrogate) {                                                 \
        case FAST_SIGMOID: { constexpr int S = FAST_SIGMOID; return call; } \
        case SIGMOID: { constexpr int S = SIGMOID; return call; }           \
        case TRIANGLE: { constexpr int S = TRIANGLE; return call; }         \
        case ARCTAN: { constexpr int S = ARCTAN; return call; }             \
        default: { constexpr int S = RECTANGULAR; return call; }            \
    }

#define EXPORT(F, NAME)                                                                                             \
    extern "C" void scan_forward_##NAME(const F* x, const F* v0, F* s, F* v_end, int64_t T, int64_t n,              \
                                        const Constants* c, int threads) {                                         \
        scan_forward(x, v0, s, v_end, T, n, Neuron<F>(*c), threads);                                                \
    }                                                                                                               \
    extern "C" void scan_backward_##NAME(const F* x, const F* v0, const F* gs, const F* gv_end, F* gx, F* gv0,      \
                                         int64_t T, int64_t n, const Constants* c, int threads) {                  \
        WITH_SURROGATE((scan_backward<S>(x, v0, gs, gv_end, gx, gv0, T, n, Neuron<F>(*c), threads)))                \
    }                                                                                                               \
    extern "C" void rate_forward_##NAME(const F* x, F* rate, F* by_x, int64_t T, int64_t n, const Constants* c,     \
                                        int threads) {                                                             \
        if (!by_x) return rate_forward<0, false>(x, rate, by_x, T, n, Neuron<F>(*c), threads);                      \
        WITH_SURROGATE((rate_forward<S, true>(x, rate, by_x, T, n, Neuron<F>(*c), threads)))                        \
    }

EXPORT(float, f32)
EXPORT(double, f64)
