// Batch norm of rows that count with a weight: the passes over its input that torch takes a tensor each for.
//
// Layout: x, y, g, gx [rows, width] row-major; weights [rows], null where all are 1; gain, slope, shift [width].

#include "neuron.h"

namespace {

// sums [threads, 2, width], zeroed: parts of sum_r w_r y_r and of sum_r w_r x_r y_r.
template <class F>
void column_sums(const F* x, const F* y, const F* weights, F* sums, int64_t rows, int64_t width, int threads) {
    const int64_t share = (rows + threads - 1) / threads, together = 64;  // rows whose sum is rounded on its own
    for_blocks(rows, share, 2 * rows * width, threads, [=](int64_t begin, int64_t count) {
        F *plain = sums + begin / share * 2 * width, *product = plain + width;
        for (int64_t first = begin; first < begin + count; first += together) {
            const int64_t last = std::min(first + together, begin + count);
            for_lanes<F>(width, [=](int64_t j, int64_t m) {
                Vec<F> a = {}, b = {};
                for (int64_t r = first; r < last; ++r) {
                    const Vec<F> wy = (weights ? weights[r] : F(1)) * get(y + r * width + j, m);
                    a += wy;
                    b = multiply_add<F>(wy, get(x + r * width + j, m), b);
                }
                put(plain + j, get(plain + j, m) + a, m);
                put(product + j, get(product + j, m) + b, m);
            });
        }
    });
}

// gx = gain g + w (shift + slope x)
template <class F>
void batch_norm_backward(const F* x, const F* g, const F* weights, const F* gain, const F* slope, const F* shift, F* gx,
                         int64_t rows, int64_t width, int threads) {
    for_blocks(rows, 64, 2 * rows * width, threads, [=](int64_t begin, int64_t count) {
        for (int64_t r = begin; r < begin + count; ++r) {
            for_lanes<F>(width, [=](int64_t j, int64_t m) {
                const Vec<F> through = multiply_add<F>(get(slope + j, m), get(x + r * width + j, m), get(shift + j, m));
                const Vec<F> direct = get(gain + j, m) * get(g + r * width + j, m);
                put(gx + r * width + j, multiply_add<F>(all(weights[r]), through, direct), m);
            });
        }
    });
}

}  // namespace

#define EXPORT(F, NAME)                                                                                             \
    extern "C" void column_sums_##NAME(const F* x, const F* y, const F* weights, F* sums, int64_t rows,             \
                                       int64_t width, int threads) {                                               \
        column_sums(x, y, weights, sums, rows, width, threads);                                                     \
    }                                                                                                               \
    extern "C" void batch_norm_backward_##NAME(const F* x, const F* g, const F* weights, const F* gain,             \
                                               const F* slope, const F* shift, F* gx, int64_t rows, int64_t width,  \
                                               int threads) {                                                      \
        batch_norm_backward(x, g, weights, gain, slope, shift, gx, rows, width, threads);                           \
    }

EXPORT(float, f32)
EXPORT(double, f64)
