// One step of a streaming model in one call: at a batch of one, the Python around its layers takes most of a decision.
//
// The layers are those of snn_dt/models/stream.py, for `rows` episodes side by side. Weights are read where the model has
// them, [out, in]: there is no copy that could be older than they are. States are changed in place.

#include "neuron.h"

namespace {

// Layout as in snn_dt/models/stream_fused.py.
struct Shape {
    int64_t rows, states, actions, units, width, hidden, heads, layers, discrete, bounded;
    double low, high, eps;  // bounds of the return-to-go, and of the norms
};

// Hands out the pointers in the order they were put down.
template <class F>
struct Pointers {
    void* const* at;
    F* next() { return static_cast<F*>(*at++); }
};

// The sum of the lanes, by halves: one addition after the other would take longer than all the rest of a row.
template <class F>
F total(Vec<F> x) {
    F part[LANES<F>];
    put(part, x);
    for (int64_t half = LANES<F> / 2; half > 0; half /= 2)
        for (int64_t k = 0; k < half; ++k) part[k] += part[k + half];
    return part[0];
}

// y = W x + bias for ROWS rows of W, whose sums do not wait for each other.
template <class F, int64_t ROWS>
void affine_rows(const F* x, const F* w, const F* bias, F* y, int64_t in) {
    Vec<F> sums[ROWS] = {};
    int64_t i = 0;
    for (; i + LANES<F> <= in; i += LANES<F>) {
        const Vec<F> inputs = get(x + i);
        for (int64_t r = 0; r < ROWS; ++r) sums[r] = multiply_add<F>(inputs, get(w + r * in + i), sums[r]);
    }
    for (int64_t r = 0; r < ROWS; ++r) {
        F rest = 0;
        for (int64_t k = i; k < in; ++k) rest += x[k] * w[r * in + k];
        y[r] = bias[r] + (total<F>(sums[r]) + rest);
    }
}

// y = W x + bias. Every weight is read where the model has it, once and in order, which is as fast as to compare a
// checksum of the weights with that of a sparse copy.
template <class F>
void affine(const F* x, const F* w, const F* bias, F* y, int64_t in, int64_t out) {
    constexpr int64_t together = 8;
    int64_t j = 0;
    for (; j + together <= out; j += together) affine_rows<F, together>(x, w + j * in, bias + j, y + j, in);
    for (; j < out; ++j) affine_rows<F, 1>(x, w + j * in, bias + j, y + j, in);
}

template <class F>
void layer_norm(const F* x, const F* gain, const F* shift, F eps, F* y, int64_t n) {
    F mean = 0, variance = 0;
    for (int64_t j = 0; j < n; ++j) mean += x[j];
    mean /= F(n);
    for (int64_t j = 0; j < n; ++j) variance += (x[j] - mean) * (x[j] - mean);
    const F scale = F(1) / std::sqrt(variance / F(n) + eps);
    for (int64_t j = 0; j < n; ++j) y[j] = (x[j] - mean) * scale * gain[j] + shift[j];
}

// Indices of neurons that fire, ascending.
using Fired = std::vector<int64_t>;

// `spikes` may be `current`.
template <class F>
void fire(const F* current, F* v, const Neuron<F>& c, Fired& fired, F* spikes, int64_t n) {
    fired.clear();
    for_lanes<F>(n, [&](int64_t j, int64_t m) {
        const Vec<F> h = c.charge(get(v + j, m), c.drive(get(current + j, m))), u = h - c.v_threshold;
        put(v + j, c.after(h, u), m);
        put(spikes + j, u >= F(0) ? all(F(1)) : Vec<F>{}, m);
        for (int64_t i = 0; i < m; ++i)
            if (u[i] >= F(0)) fired.push_back(j + i);
    });
}

// S = g S + k^T v, y = (1 - g) q S per head, g = sigmoid(raw); `fired` of q, k, v side by side.
template <class F>
void attend(const Fired& fired, const F* raw, F* sum, F* y, int64_t heads, int64_t width) {
    const int64_t d = width / heads;
    const auto q = fired.begin(), k = std::lower_bound(q, fired.end(), width);
    const auto v = std::lower_bound(k, fired.end(), 2 * width);
    for (int64_t h = 0; h < heads; ++h) {
        const F decay = F(1) / (F(1) + std::exp(-raw[h]));
        for (int64_t j = h * d * d; j < (h + 1) * d * d; ++j) sum[j] *= decay;
    }
    for (auto i = k, begin = v; i != v; ++i) {
        const int64_t row = *i - width, head = row / d;
        while (begin != fired.end() && *begin - 2 * width < head * d) ++begin;
        for (auto j = begin; j != fired.end() && *j - 2 * width < (head + 1) * d; ++j)
            sum[row * d + *j - 2 * width - head * d] += F(1);
    }
    std::fill_n(y, width, F(0));
    for (auto i = q; i != k; ++i)
        for (int64_t j = 0; j < d; ++j) y[*i / d * d + j] += sum[*i * d + j];
    for (int64_t h = 0; h < heads; ++h) {
        const F gain = F(1) / (F(1) + std::exp(raw[h]));
        for (int64_t j = h * d; j < (h + 1) * d; ++j) y[j] *= gain;
    }
}

// x += branches of one block.
template <class F>
void block(F* x, Pointers<F>& p, int64_t row, const Shape& s, const Neuron<F>& c, F* a, Fired& fired) {
    const int64_t d = s.width, head = d / s.heads;
    F* b = a + d;
    const F *norm = p.next(), *shift = p.next(), *qkv = p.next(), *qkv_bias = p.next();
    const F *raw = p.next(), *norm_out = p.next(), *shift_out = p.next();
    const F *out = p.next(), *out_bias = p.next(), *norm_mlp = p.next(), *shift_mlp = p.next();
    const F *in = p.next(), *in_bias = p.next(), *back = p.next(), *back_bias = p.next();
    F *v_in = p.next() + row * d, *v_qkv = p.next() + row * 3 * d, *sum = p.next() + row * d * head;
    F *v_out = p.next() + row * d, *v_mlp = p.next() + row * d, *v_hidden = p.next() + row * s.hidden;
    const F eps = F(s.eps);
    layer_norm(x, norm, shift, eps, a, d);
    fire(a, v_in, c, fired, a, d);
    affine(a, qkv, qkv_bias, b, d, 3 * d);
    fire(b, v_qkv, c, fired, b, 3 * d);
    attend(fired, raw, sum, a, s.heads, d);
    layer_norm(a, norm_out, shift_out, eps, b, d);
    fire(b, v_out, c, fired, b, d);
    affine(b, out, out_bias, a, d, d);
    for (int64_t j = 0; j < d; ++j) x[j] += a[j];
    layer_norm(x, norm_mlp, shift_mlp, eps, a, d);
    fire(a, v_mlp, c, fired, a, d);
    affine(a, in, in_bias, b, d, s.hidden);
    fire(b, v_hidden, c, fired, b, s.hidden);
    affine(b, back, back_bias, a, s.hidden, d);
    for (int64_t j = 0; j < d; ++j) x[j] += a[j];
}

// The token of one row, [width].
template <class F>
void embed(F* x, Pointers<F>& p, int64_t row, const Shape& s, F* a) {
    const F rtg = std::clamp(p.next()[row], F(s.low), F(s.high));
    const F* states = p.next() + row * s.states;
    bool& started = static_cast<bool*>(*p.at++)[row];
    const bool begun = started;
    started = true;
    const void* action = *p.at++;
    const F *slope = p.next(), *shift = p.next(), *gate = p.next(), *gate_bias = p.next(), *state = p.next();
    const F *state_bias = p.next(), *by_action = p.next(), *norm = p.next(), *norm_shift = p.next();
    F *b = a + s.width, *code = b + 2 * s.width;
    for (int64_t u = 0; u < s.units; ++u) code[u] = std::tanh(rtg * slope[u] + shift[u]);
    affine(code, gate, gate_bias, b, s.units, 2 * s.width);
    affine(states, state, state_bias, a, s.states, s.width);
    for (int64_t j = 0; j < s.width && begun; ++j) {
        if (s.discrete) a[j] += by_action[static_cast<const int64_t*>(action)[row] * s.width + j];
        for (int64_t i = 0; i < s.actions && !s.discrete; ++i)
            a[j] += static_cast<const F*>(action)[row * s.actions + i] * by_action[j * s.actions + i];
    }
    layer_norm(a, norm, norm_shift, F(s.eps), x, s.width);
    for (int64_t j = 0; j < s.width; ++j) x[j] = x[j] * (F(1) + b[j]) + b[s.width + j];
}

template <class F>
void stream_step(void* const* pointers, const Shape& s, const Constants& constants, int threads) {
    const Neuron<F> neuron(constants);
    const int64_t most = std::max(3 * s.width, s.hidden), share = (s.rows + threads - 1) / threads;
    for_blocks(s.rows, share, s.rows * s.width * most * s.layers, threads, [=](int64_t first, int64_t count) {
        const FlushDenormals flush;
        std::vector<F> scratch(2 * s.width + most + s.units);
        F *x = scratch.data(), *a = x + s.width;
        Fired fired;
        fired.reserve(most);
        for (int64_t row = first; row < first + count; ++row) {
            Pointers<F> p{pointers};
            F* predictions = p.next() + row * s.actions;
            embed(x, p, row, s, a);
            for (int64_t i = 0; i < s.layers; ++i) block(x, p, row, s, neuron, a, fired);
            const F *norm = p.next(), *shift = p.next(), *head = p.next(), *bias = p.next();
            layer_norm(x, norm, shift, F(s.eps), a, s.width);
            affine(a, head, bias, predictions, s.width, s.actions);
            if (s.bounded) {
                const F *low = p.next(), *high = p.next();
                for (int64_t i = 0; i < s.actions; ++i)
                    predictions[i] = low[i] + (high[i] - low[i]) * (std::tanh(predictions[i]) + F(1)) / F(2);
            }
        }
    });
}

}  // namespace

#define EXPORT(F, NAME)                                                                                             \
    extern "C" void stream_step_##NAME(void* const* pointers, const Shape* shape, const Constants* neuron,          \
                                       int threads) {                                                               \
        stream_step<F>(pointers, *shape, *neuron, threads);                                                         \
    }

EXPORT(float, f32)
EXPORT(double, f64)
