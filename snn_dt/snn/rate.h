// A layer norm of one row, and the rate of neurons under a constant current; layout in rate.cpp.

#pragma once

#include "neuron.h"

#include <limits>

namespace {

// Calls it for `width` neurons from the current `x`.
template <int S, bool DERIVATIVE, class F, bool Z>
void rates(const F* x, F* rate, F* grad_x, int64_t T, int64_t width, const Neuron<F, Z>& c) {
    constexpr int64_t vectors = REGISTER == 64 ? 4 : 2, most = vectors * LANES<F>;  // what registers hold
    for (int64_t first = 0; first < width; first += most) {
        const int64_t n = std::min(most, width - first);
        Vec<F> drive[vectors] = {}, v[vectors], dv[vectors] = {}, spikes[vectors] = {}, dspikes[vectors] = {};
        for_lanes<F>(n, [&](int64_t j, int64_t m) { drive[j / LANES<F>] = c.drive(get(x + first + j, m)); });
        std::fill_n(v, vectors, all(c.v_rest));
        for (int64_t t = 0; t < T; ++t) {
            for (int64_t i = 0; i < vectors; ++i) {  // many at a time, since each waits for its own last step
                const Vec<F> h = c.charge(v[i], drive[i]), u = h - c.v_threshold;
                spikes[i] += u >= F(0) ? all(F(1)) : Vec<F>{};
                v[i] = c.after(h, u);
                if constexpr (DERIVATIVE) {
                    const Vec<F> dh = multiply_add<F>(all(c.decay), dv[i], all(c.gain));
                    const Vec<F> ds = psi<S>(u, c.slope) * dh;
                    dspikes[i] += ds;
                    dv[i] = multiply_add<F>(c.by_spike(u), ds, c.by_h(u, dh));
                }
            }
        }
        for_lanes<F>(n, [&](int64_t j, int64_t m) {
            put(rate + first + j, spikes[j / LANES<F>] / F(T), m);
            if constexpr (DERIVATIVE) put(grad_x + first + j, dspikes[j / LANES<F>] / F(T), m);
        });
    }
}

// The number halfway between two that are not negative, in the order of all floats.
template <class F>
F between(F low, F high) {
    std::conditional_t<sizeof(F) == 4, uint32_t, uint64_t> a, b;
    std::memcpy(&a, &low, sizeof(F));
    std::memcpy(&b, &high, sizeof(F));
    a += (b - a) / 2;
    std::memcpy(&low, &a, sizeof(F));
    return low;
}

// A constant current and a hard reset to 0 give the more spikes the higher the current, rounded as it may be: `current[i]`
// is the lowest number that gives `rate[i]`. No other reset needs to be so (`v_rest - V` may round a higher membrane to
// a lower one); it has no ladder.
template <class F>
struct Ladder {
    std::vector<F> current, rate;
};

template <class F, bool Z>
F spikes_of(F current, int64_t T, const Neuron<F, Z>& c) {
    const Vec<F> x = all(current);
    F rate[LANES<F>];
    std::memcpy(rate, &x, sizeof(rate));
    rates<FAST_SIGMOID, false>(rate, rate, static_cast<F*>(nullptr), T, 1, c);
    return std::round(rate[0] * F(T));
}

// Calls of one model ask for the same ladder again and again: the last one is kept.
template <class F, bool Z>
const Ladder<F>& ladder(int64_t T, const Neuron<F, Z>& c) {
    thread_local Ladder<F> found;
    thread_local F key[5] = {};
    const F asked[5] = {F(T), c.leak, c.gain, c.v_rest, c.v_threshold};
    if (std::equal(key, key + 5, asked)) return found;
    std::copy_n(asked, 5, key);
    found = {};
    F low = 0, seen = 0;
    const F most = spikes_of(std::numeric_limits<F>::max() / 4, T, c);
    while (seen < most) {
        F high = std::numeric_limits<F>::max() / 4;  // more than `seen` spikes; `low`: no more
        for (F middle; (middle = between(low, high)) != low;)
            (spikes_of(middle, T, c) > seen ? high : low) = middle;
        seen = spikes_of(high, T, c);
        found.current.push_back(high);
        found.rate.push_back(seen / F(T));
        low = high;
    }
    return found;
}

// What `rates` gives, without derivatives; up the ladder where the neurons have one.
template <class F, bool Z>
struct Firing {
    int64_t T;
    Neuron<F, Z> neuron;
    Ladder<F> rungs;
    Firing(int64_t T, const Neuron<F, Z>& c) : T(T), neuron(c), rungs(Z ? ladder(T, c) : Ladder<F>{}) {}

    void operator()(const F* x, F* rate, int64_t width) const {
        if constexpr (!Z) return rates<FAST_SIGMOID, false>(x, rate, static_cast<F*>(nullptr), T, width, neuron);
        for_lanes<F>(width, [&](int64_t j, int64_t m) {
            const Vec<F> current = get(x + j, m);
            Vec<F> highest = {};
            for (size_t i = 0; i < rungs.current.size(); ++i)
                highest = current >= rungs.current[i] ? all(rungs.rate[i]) : highest;
            put(rate + j, highest, m);
        });
    }
};

template <class F>
F sum(Vec<F> x) {
    F total = 0;
    for (int64_t i = 0; i < LANES<F>; ++i) total += x[i];
    return total;
}

// Mean and 1 / deviation of a row.
template <class F>
void moments(const F* x, int64_t width, F eps, F* stats) {
    Vec<F> total = {}, squares = {};
    for_lanes<F>(width, [&](int64_t j, int64_t m) { total += get(x + j, m); });
    const F mean = sum<F>(total) / F(width);
    const Vec<F> means = all(mean);
    for_lanes<F>(width, [&](int64_t j, int64_t m) {  // lanes beyond the row are 0 on both sides
        const Vec<F> centred = get(x + j, m) - get(reinterpret_cast<const F*>(&means), m);
        squares += centred * centred;
    });
    stats[0] = mean;
    stats[1] = F(1) / std::sqrt(sum<F>(squares) / F(width) + eps);
}

// to = gamma (x - mean) / deviation + beta.
template <class F>
void normalise(const F* x, const F* stats, const F* gamma, const F* beta, F* to, int64_t width) {
    for_lanes<F>(width, [&](int64_t j, int64_t m) {
        put(to + j, (get(x + j, m) - stats[0]) * stats[1] * get(gamma + j, m) + get(beta + j, m), m);
    });
}

}  // namespace
