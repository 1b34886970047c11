// The rate of neurons under a constant current: the T steps in registers, alone or behind a layer norm.
//
// Layout: x, rate, grad_x and their gradients [rows, width] row-major, rows = 1 without a norm; stats [rows, 2]: mean and
// 1 / deviation; gamma, beta [width]. A rate depends on its own neuron's current alone, so its derivative rides along,
// forward, and the backward pass needs no membrane.

#include "rate.h"

namespace {

template <int S, bool DERIVATIVE, class F, bool Z>
void rate_forward(const F* x, F* rate, F* grad_x, int64_t T, int64_t n, const Neuron<F, Z>& neuron, int threads) {
    const Firing<F, Z> fire(T, neuron);
    for_blocks(n, 4096, T * n, threads, [=, &fire](int64_t first, int64_t width) {
        const Neuron<F, Z> c = neuron;  // a local: stores through F* cannot change it
        if constexpr (DERIVATIVE) rates<S, true>(x + first, rate + first, grad_x + first, T, width, c);
        else fire(x + first, rate + first, width);
    });
}

template <int S, bool DERIVATIVE, class F, bool Z>
void norm_rate_forward(const F* x, const F* gamma, const F* beta, F* rate, F* by_y, F* stats, F eps, int64_t T,
                       int64_t rows, int64_t width, const Neuron<F, Z>& neuron, int threads) {
    const int64_t together = std::max<int64_t>(256 / width, 1);  // rows that fill the registers of `rates`
    const Firing<F, Z> fire(T, neuron);
    for_blocks(rows, together * 4, T * rows * width, threads, [=, &fire](int64_t begin, int64_t count) {
        const Neuron<F, Z> c = neuron;
        thread_local std::vector<F> scratch;
        scratch.resize(std::max<size_t>(scratch.size(), together * width));
        F* y = scratch.data();
        for (int64_t r = begin; r < begin + count; r += together) {
            const int64_t n = std::min(together, begin + count - r);
            for (int64_t i = 0; i < n; ++i) {
                const F* row = x + (r + i) * width;
                F own[2], *to = y + i * width;
                moments(row, width, eps, own);
                normalise(row, own, gamma, beta, to, width);
                if constexpr (DERIVATIVE) std::copy_n(own, 2, stats + 2 * (r + i));
            }
            if constexpr (DERIVATIVE) rates<S, true>(y, rate + r * width, by_y + r * width, T, n * width, c);
            else fire(y, rate + r * width, n * width);
        }
    });
}

// gx from the gradient g of the rate; gains [threads, 2, width] are parts of the gradients of gamma and beta.
template <class F>
void norm_rate_backward(const F* x, const F* gamma, const F* by_y, const F* stats, const F* g, F* gx, F* gains,
                        int64_t rows, int64_t width, int threads) {
    const int64_t share = (rows + threads - 1) / threads;
    for_blocks(rows, share, 8 * rows * width, threads, [=](int64_t begin, int64_t count) {
        F *by_gamma = gains + begin / share * 2 * width, *by_beta = by_gamma + width;
        for (int64_t r = begin; r < begin + count; ++r) {
            const F *x_r = x + r * width, *by_r = by_y + r * width, *g_r = g + r * width;
            const F mean = stats[2 * r], inverse = stats[2 * r + 1];
            F* to = gx + r * width;
            Vec<F> total = {}, product = {};
            for_lanes<F>(width, [&](int64_t j, int64_t m) {
                const Vec<F> gy = get(g_r + j, m) * get(by_r + j, m), normal = (get(x_r + j, m) - mean) * inverse;
                const Vec<F> h = gy * get(gamma + j, m);
                put(by_gamma + j, get(by_gamma + j, m) + gy * normal, m);
                put(by_beta + j, get(by_beta + j, m) + gy, m);
                put(to + j, h, m);
                total += h;
                product += h * normal;
            });
            const F shift = sum<F>(total) / F(width), slope = sum<F>(product) / F(width);
            for_lanes<F>(width, [&](int64_t j, int64_t m) {
                const Vec<F> normal = (get(x_r + j, m) - mean) * inverse;
                put(to + j, inverse * (get(to + j, m) - shift - slope * normal), m);
            });
        }
    });
}

}  // namespace

#define EXPORT(F, NAME)                                                                                             \
    extern "C" void rate_forward_##NAME(const F* x, F* rate, F* grad_x, int64_t T, int64_t n, const Constants* c,     \
                                        int threads) {                                                             \
        specialised(*c, [=](auto S, auto Z) {                                                                       \
            const Neuron<F, Z> neuron(*c);                                                                          \
            grad_x ? rate_forward<S, true>(x, rate, grad_x, T, n, neuron, threads)                                      \
                 : rate_forward<S, false>(x, rate, grad_x, T, n, neuron, threads);                                    \
        });                                                                                                         \
    }                                                                                                               \
    extern "C" void norm_rate_forward_##NAME(const F* x, const F* gamma, const F* beta, F* rate, F* by_y, F* stats, \
                                             int64_t T, int64_t rows, int64_t width, double eps,                    \
                                             const Constants* c, int threads) {                                    \
        specialised(*c, [=](auto S, auto Z) {                                                                       \
            const Neuron<F, Z> neuron(*c);                                                                          \
            const auto run = by_y ? norm_rate_forward<S, true, F, Z> : norm_rate_forward<S, false, F, Z>;           \
            run(x, gamma, beta, rate, by_y, stats, F(eps), T, rows, width, neuron, threads);                        \
        });                                                                                                         \
    }                                                                                                               \
    extern "C" void norm_rate_backward_##NAME(const F* x, const F* gamma, const F* by_y, const F* stats,            \
                                              const F* g, F* gx, F* gains, int64_t rows, int64_t width,             \
                                              int threads) {                                                       \
        norm_rate_backward(x, gamma, by_y, stats, g, gx, gains, rows, width, threads);                              \
    }

EXPORT(float, f32)
EXPORT(double, f64)
