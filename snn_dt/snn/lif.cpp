// LIF over time: the recurrence of reference.py fused over T, for float and double.
//
// Layout: x, s and their gradients [T, N] row-major; v0, v_end and their gradients [N].
// A block of neurons runs through all T steps while its state stays in cache; blocks are spread over threads, the lanes of
// a block over vector registers. Nothing but x and v0 is kept for the backward pass, which recomputes h into a scratch.
//
// Build with -ffp-contract=off: a fused multiply-add rounds differently from torch and flips spikes at the threshold.

#include "neuron.h"

namespace {

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

template <class F, bool Z>
void scan_forward(const F* x, const F* v0, F* s, F* v_end, int64_t T, int64_t n, const Neuron<F, Z>& neuron,
                  int threads) {
    const bool past = past_cache(s, T, n);
    for_blocks(n, block_width<F>(8, n, threads), T * n, threads, [=](int64_t first, int64_t width) {
        const Neuron<F, Z> c = neuron;  // a local: stores through F* cannot change it
        F* v = v_end + first;
        for (int64_t j = 0; j < width; ++j) v[j] = v0 ? v0[first + j] : c.v_rest;
        for (int64_t t = 0; t < T; ++t) {
            const F *x_t = x + t * n + first, *next = t + 1 < T ? x_t + n : x_t;
            F* s_t = s + t * n + first;
            for_lanes<F>(width, [=](int64_t j, int64_t m) {
                __builtin_prefetch(next + j, 0, 2);  // rows lie n numbers apart, where no hardware prefetcher looks
                const Vec<F> h = c.charge(get(v + j, m), c.drive(get(x_t + j, m))), u = h - c.v_threshold;
                const Vec<F> spikes = u >= F(0) ? all(F(1)) : Vec<F>{};
                past && m == LANES<F> ? put_past_cache(s_t + j, spikes) : put(s_t + j, spikes, m);
                put(v + j, c.after(h, u), m);
            });
        }
        if (past) fence();
    });
}

template <int S, class F, bool Z>
void scan_backward(const F* x, const F* v0, const F* gs, const F* gv_end, F* gx, F* gv0, int64_t T, int64_t n,
                   const Neuron<F, Z>& neuron, int threads) {
    const bool past = past_cache(gx, T, n);
    const int64_t most = block_width<F>(T, n, threads);
    for_blocks(n, most, T * n, threads, [=](int64_t first, int64_t width) {
        const Neuron<F, Z> c = neuron;
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
                const Vec<F> h = c.charge(get(v + j), c.drive(get(x_t + j, m))), u = h - c.v_threshold;
                put(u_t + j, u);
                put(v + j, c.after(h, u));
            });
        }
        for (int64_t t = T - 1; t >= 0; --t) {
            const F *gs_t = gs ? gs + t * n + first : nullptr, *next = gs && t > 0 ? gs_t - n : x, *u_t = u + t * most;
            F* gx_t = gx + t * n + first;
            for_lanes<F>(width, [=](int64_t j, int64_t m) {
                __builtin_prefetch(next + j, 0, 2);
                const Vec<F> u = get(u_t + j), g = get(gv + j);
                const Vec<F> by_s = multiply_add<F>(c.by_spike(u), g, gs_t ? get(gs_t + j, m) : Vec<F>{});
                const Vec<F> gh = multiply_add<F>(psi<S>(u, c.slope), by_s, c.by_h(u, g));
                past && m == LANES<F> ? put_past_cache(gx_t + j, c.gain * gh) : put(gx_t + j, c.gain * gh, m);
                put(gv + j, c.decay * gh);
            });
        }
        if (gv0) std::copy(gv, gv + width, gv0 + first);
        if (past) fence();
    });
}

}  // namespace

#define EXPORT(F, NAME)                                                                                             \
    extern "C" void scan_forward_##NAME(const F* x, const F* v0, F* s, F* v_end, int64_t T, int64_t n,              \
                                        const Constants* c, int threads) {                                         \
        specialised(*c, [=](auto, auto Z) { scan_forward(x, v0, s, v_end, T, n, Neuron<F, Z>(*c), threads); });     \
    }                                                                                                               \
    extern "C" void scan_backward_##NAME(const F* x, const F* v0, const F* gs, const F* gv_end, F* gx, F* gv0,      \
                                         int64_t T, int64_t n, const Constants* c, int threads) {                  \
        specialised(*c, [=](auto S, auto Z) {                                                                       \
            scan_backward<S>(x, v0, gs, gv_end, gx, gv0, T, n, Neuron<F, Z>(*c), threads);                          \
        });                                                                                                         \
    }

EXPORT(float, f32)
EXPORT(double, f64)
