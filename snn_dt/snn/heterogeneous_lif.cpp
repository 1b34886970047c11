// LIF over time with a decay and a threshold for each neuron (own_constants.py): V = beta V + I - theta [V_before >= theta].
//
// Layout: current, membranes, spikes and gradients [T, M, N] row-major, M sequences of N neurons; v0 [M, N]; beta and
// theta [N]. A sequence runs through all T steps by itself; sequences are spread over threads. What is summed over them
// is handed out per sequence [M, N], so that no result depends on the number of threads.

#include <cmath>
#include <cstdint>
#include <vector>

namespace {

template <class F>
void forward(const F* current, const F* v0, const F* beta, const F* theta, F* membranes, F* spikes, int64_t T,
             int64_t M, int64_t N, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && T * M * N > 1 << 15)
    for (int64_t m = 0; m < M; ++m) {
        const F* before = v0 + m * N;
        for (int64_t t = 0; t < T; ++t) {
            const int64_t at = (t * M + m) * N;
            const F *__restrict x = current + at, *__restrict v = before;
            F *__restrict after = membranes + at, *__restrict s = spikes + at;
            for (int64_t j = 0; j < N; ++j) {
                const F reset = v[j] >= theta[j] ? theta[j] : F(0);
                const F h = v[j] * beta[j] + x[j] - reset;  // rounded as torch rounds: built without contraction
                after[j] = h;
                s[j] = h >= theta[j] ? F(1) : F(0);
            }
            before = after;
        }
    }
}

template <class F>
void backward(const F* membranes, const F* v0, const F* beta, const F* theta, const F* d_spikes, F* d_current,
              F* d_beta, F* d_theta, int64_t T, int64_t M, int64_t N, double slope, int threads) {
    const F k = F(slope);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && T * M * N > 1 << 15)
    for (int64_t m = 0; m < M; ++m) {
        std::vector<F> carried(N, F(0));
        F *__restrict carry = carried.data(), *__restrict by_beta = d_beta + m * N, *__restrict by_theta = d_theta + m * N;
        for (int64_t t = T - 1; t >= 0; --t) {
            const int64_t at = (t * M + m) * N;
            const F *__restrict v = membranes + at, *__restrict g = d_spikes + at;
            const F* __restrict before = t > 0 ? membranes + at - M * N : v0 + m * N;
            F* __restrict out = d_current + at;
            for (int64_t j = 0; j < N; ++j) {
                const F wide = F(1) + std::abs(k * (v[j] - theta[j])), through = g[j] / (wide * wide);
                const F d_v = through + beta[j] * carry[j];
                out[j] = carry[j] = d_v;
                by_beta[j] += d_v * before[j];
                by_theta[j] -= through + (before[j] >= theta[j] ? d_v : F(0));
            }
        }
    }
}

}  // namespace

#define EXPORT(F, NAME)                                                                                              \
    extern "C" void own_forward_##NAME(const F* current, const F* v0, const F* beta, const F* theta, F* membranes,   \
                                       F* spikes, int64_t T, int64_t M, int64_t N, int threads) {                    \
        forward(current, v0, beta, theta, membranes, spikes, T, M, N, threads);                                      \
    }                                                                                                                \
    extern "C" void own_backward_##NAME(const F* membranes, const F* v0, const F* beta, const F* theta,              \
                                        const F* d_spikes, F* d_current, F* d_beta, F* d_theta, int64_t T,           \
                                        int64_t M, int64_t N, double slope, int threads) {                           \
        backward(membranes, v0, beta, theta, d_spikes, d_current, d_beta, d_theta, T, M, N, slope, threads);         \
    }

EXPORT(float, f32)
EXPORT(double, f64)
