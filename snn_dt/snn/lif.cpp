// LIF over time: the recurrence of reference.py fused over T, for float and double.
//
// Layout: x, s and their gradients [T, N] row-major; v0, v_end and their gradients [N]; for a rate x and all results [N].
// A block of neurons runs through all T steps while its state stays in cache; blocks are spread over threads, the lanes of
// a block over vector registers. Nothing but x and v0 is kept for the backward pass, which recomputes h into a scratch.
//
// Build with -ffp-contract=off: a fused multiply-add rounds differently from torch and flips spikes at the threshold.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

// Coefficients in parameters.py. Every reset is V = s ? keep h + add : h; `attach` is 0 when it is detached.
struct Constants {
    double leak, gain, v_rest, v_threshold, slope, keep, add, attach;
    int32_t surrogate;
};

enum Surrogate { FAST_SIGMOID, SIGMOID, TRIANGLE, ARCTAN, RECTANGULAR };

template <int S, class F>
inline F psi(F u, F k) {
    const F a = std::fabs(k * u);
    if constexpr (S == FAST_SIGMOID) return F(1) / ((F(1) + a) * (F(1) + a));
    if constexpr (S == TRIANGLE) return a < F(1) ? F(1) - a : F(0);
    if constexpr (S == ARCTAN) return F(1) / (F(1) + a * a);
    if constexpr (S == RECTANGULAR) return a <= F(1) ? F(1) : F(0);
    const F e = std::exp(-a);  // 4 y (1 - y) is even in u
    return F(4) * e / ((F(1) + e) * (F(1) + e));
}

template <class F>
struct Neuron {
    F leak, decay, gain, v_rest, v_threshold, slope, keep, add, by_spike_h, by_spike_1;
    explicit Neuron(const Constants& c)
        : leak(F(c.leak)), decay(F(1.0 - c.leak)), gain(F(c.gain)), v_rest(F(c.v_rest)), v_threshold(F(c.v_threshold)),
          slope(F(c.slope)), keep(F(c.keep)), add(F(c.add)), by_spike_h(F(c.attach * (c.keep - 1.0))),
          by_spike_1(F(c.attach * c.add)) {}

    inline F charge(F v, F x) const { return (v + leak * (v_rest - v)) + gain * x; }
    inline F over(F h) const { return h - v_threshold; }
    inline F after(F h) const { return over(h) >= F(0) ? keep * h + add : h; }
    inline F by_h(F h) const { return over(h) >= F(0) ? keep : F(1); }    // dV/dh with s held
    inline F by_spike(F h) const { return by_spike_h * h + by_spike_1; }  // dV/ds with h held
};

// Calls body(first, width) for blocks of at most `most` of the n neurons, in several threads when that pays.
template <class Body>
void for_blocks(int64_t n, int64_t most, int64_t work, int threads, Body body) {
    const int64_t blocks = (n + most - 1) / most;
    // below some 10 us of work a team of threads costs more than it saves
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && blocks > 1 && work > 1 << 15)
    for (int64_t b = 0; b < blocks; ++b) body(b * most, std::min(most, n - b * most));
}

// Wide rows suit the hardware's prefetcher, but the scratch of T rows has to stay in a core's second-level cache.
template <class F>
int64_t block_width(int64_t T, int64_t n, int threads) {
    const int64_t fits = (int64_t(1) << 19) / (int64_t(sizeof(F)) * std::max<int64_t>(T, 1));
    const int64_t share = (n + threads - 1) / threads;
    return std::clamp<int64_t>(std::min(fits, share + 63) / 64 * 64, 64, 4096);
}

// The next row lies n numbers ahead, where no hardware prefetcher looks: fetch its head.
template <class F>
inline void fetch(const F* row, int64_t width) {
    for (int64_t j = 0; j < std::min<int64_t>(width, 512); j += 64 / int64_t(sizeof(F))) __builtin_prefetch(row + j);
}

template <class F>
void scan_forward(const F* x, const F* v0, F* s, F* v_end, int64_t T, int64_t n, const Neuron<F>& neuron, int threads) {
    for_blocks(n, block_width<F>(T, n, threads), T * n, threads, [=](int64_t first, int64_t width) {
        const Neuron<F> c = neuron;  // a local, or stores through F* could change it and no loop is vectorised
        F* v = v_end + first;
        for (int64_t j = 0; j < width; ++j) v[j] = v0 ? v0[first + j] : c.v_rest;
        for (int64_t t = 0; t < T; ++t) {
            const F* x_t = x + t * n + first;
            F* s_t = s + t * n + first;
            if (t + 1 < T) fetch(x_t + n, width);
#pragma omp simd
            for (int64_t j = 0; j < width; ++j) {
                const F h = c.charge(v[j], x_t[j]);
                s_t[j] = c.over(h) >= F(0) ? F(1) : F(0);
                v[j] = c.after(h);
            }
        }
    });
}

template <int S, class F>
void scan_backward(const F* x, const F* v0, const F* gs, const F* gv_end, F* gx, F* gv0, int64_t T, int64_t n,
                   const Neuron<F>& neuron, int threads) {
    const int64_t most = block_width<F>(T, n, threads);
    for_blocks(n, most, T * n, threads, [=](int64_t first, int64_t width) {
        const Neuron<F> c = neuron;
        thread_local std::vector<F> scratch;
        scratch.resize(std::max<size_t>(scratch.size(), (T + 2) * most));
        F *h = scratch.data(), *v = h + T * most, *gv = v + most;
        for (int64_t j = 0; j < width; ++j) v[j] = v0 ? v0[first + j] : c.v_rest;
        for (int64_t j = 0; j < width; ++j) gv[j] = gv_end ? gv_end[first + j] : F(0);
        for (int64_t t = 0; t < T; ++t) {
            const F* x_t = x + t * n + first;
            F* h_t = h + t * most;
            if (t + 1 < T) fetch(x_t + n, width);
#pragma omp simd
            for (int64_t j = 0; j < width; ++j) {
                const F h = c.charge(v[j], x_t[j]);
                h_t[j] = h;
                v[j] = c.after(h);
            }
        }
        for (int64_t t = T - 1; t >= 0; --t) {
            const F* gs_t = gs ? gs + t * n + first : nullptr;
            const F* h_t = h + t * most;
            F* gx_t = gx + t * n + first;
            if (t > 0) fetch(gs ? gs_t - n : gx_t - n, width);
#pragma omp simd
            for (int64_t j = 0; j < width; ++j) {
                const F h = h_t[j];
                const F by_s = (gs_t ? gs_t[j] : F(0)) + c.by_spike(h) * gv[j];
                const F gh = c.by_h(h) * gv[j] + psi<S>(c.over(h), c.slope) * by_s;
                gx_t[j] = c.gain * gh;
                gv[j] = c.decay * gh;
            }
        }
        if (gv0) std::copy(gv, gv + width, gv0 + first);
    });
}

// The current is constant, so a rate is a function of one number and its derivative can ride along, forward.
template <int S, bool DERIVATIVE, class F>
void rate_forward(const F* x, F* rate, F* by_x, int64_t T, int64_t n, const Neuron<F>& neuron, int threads) {
    constexpr int64_t most = 256;
    for_blocks(n, most, T * n, threads, [=](int64_t first, int64_t width) {
        const Neuron<F> c = neuron;
        F v[most], dv[most] = {}, spikes[most] = {}, dspikes[most] = {};
        std::fill_n(v, width, c.v_rest);
        for (int64_t t = 0; t < T; ++t) {
#pragma omp simd
            for (int64_t j = 0; j < width; ++j) {
                const F h = c.charge(v[j], x[first + j]);
                spikes[j] += c.over(h) >= F(0) ? F(1) : F(0);
                v[j] = c.after(h);
                if constexpr (DERIVATIVE) {
                    const F dh = c.decay * dv[j] + c.gain;
                    const F ds = psi<S>(c.over(h), c.slope) * dh;
                    dspikes[j] += ds;
                    dv[j] = c.by_h(h) * dh + c.by_spike(h) * ds;
                }
            }
        }
        for (int64_t j = 0; j < width; ++j) rate[first + j] = spikes[j] / F(T);
        for (int64_t j = 0; DERIVATIVE && j < width; ++j) by_x[first + j] = dspikes[j] / F(T);
    });
}

}  // namespace

#define WITH_SURROGATE(call)                                               \
    switch (c->surrogate) {                                                \
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
