// The new tokens of a decision through a stack of blocks, against keys and values that earlier decisions have left.
//
// B rows with P new tokens each; x [B, P, D] is the residual stream and is overwritten. A layer's keys and values are in
// rings [B, C, D]; token i of a row's episode is at place i mod C. A row is at step timesteps[b], its new tokens are
// those of snn_dt/models/kept_keys.py. Rows do not meet, so each thread takes some of them through all layers.

#include "blocks.h"

namespace {

struct Ring {
    int64_t span, per_step, capacity;
};

// What is before and behind the blocks: linear embeddings, a table of positions or none, norms, a linear head. Weights are
// read where the model has them. Layout as in snn_dt/models/kept_keys_fused.py.
struct Ends {
    int64_t states, actions, discrete, bounded, positions;
    double low, high, eps;  // bounds of the return-to-go
    const float *rtg, *rtg_bias, *state, *state_bias, *action, *action_bias, *table, *norm, *norm_shift;
    const float *last_norm, *last_shift, *head, *head_bias, *action_low, *action_high;
    const int64_t* trained;  // latest timestep seen in training
};

// to += W x + bias, W [out, in].
inline void add_affine(const float* x, const float* w, const float* bias, float* to, int64_t in, int64_t out) {
    for (int64_t j = 0; j < out; ++j) to[j] += std::inner_product(x, x + in, w + j * in, bias[j]);
}

inline void add_position(const Ends& e, int64_t step, float* to, int64_t D) {
    if (!e.positions) return;
    step = std::min(std::max(step, int64_t(0)), e.positions - 1);
    if (*e.trained >= 0) step = std::min(step, *e.trained);
    add(to, e.table + step * D, D);
}

// The new tokens x [P, D] of a row at step t, whose last action is at `action`.
inline void embed(const Ends& e, float rtg, const float* states, const void* action, int64_t row, int64_t t, float* x,
                  int64_t p, int64_t D) {
    std::fill_n(x, p * D, 0.0f);
    float *by_rtg = p > 1 ? x + D : x, *by_state = p > 1 ? x + 2 * D : x;
    const float known = std::min(std::max(rtg, float(e.low)), float(e.high));
    for (int64_t j = 0; j < D; ++j) by_rtg[j] += e.rtg[j] * known + e.rtg_bias[j];
    add_affine(states, e.state, e.state_bias, by_state, e.states, D);
    if (p > 1 || t > 0) {
        if (e.discrete)
            add(x, e.action + static_cast<const int64_t*>(action)[row] * D, D);
        else
            add_affine(static_cast<const float*>(action) + row * e.actions, e.action, e.action_bias, x, e.actions, D);
    }
    for (int64_t i = 0; i < p; ++i) {
        add_position(e, p > 1 && i == 0 ? t - 1 : t, x + i * D, D);
        float stats[2];
        moments(x + i * D, D, float(e.eps), stats);
        normalise(x + i * D, stats, e.norm, e.norm_shift, x + i * D, D);
    }
}

// Predictions [A] from the last token.
inline void read_out(const Ends& e, float* x, float* to, int64_t D) {
    float stats[2];
    moments(x, D, float(e.eps), stats);
    normalise(x, stats, e.last_norm, e.last_shift, x, D);
    for (int64_t i = 0; i < e.actions; ++i) {
        to[i] = e.head_bias[i] + dot(x, e.head + i * D, D);
        if (e.bounded) to[i] = e.action_low[i] + (e.action_high[i] - e.action_low[i]) * (std::tanh(to[i]) + 1) / 2;
    }
}

template <bool SPIKING, bool Z>
struct Decision : Layers<SPIKING, Z> {
    using Base = Layers<SPIKING, Z>;
    using Base::s, Base::part, Base::norm, Base::product;
    Ring ring;
    const int64_t* timesteps;  // [B]
    float *x, *last;           // [B, P, D]; [B, D], the state token after all blocks
    float* const* rings;       // keys and values of each layer

    // Places of the tokens that token i attends to, in order, as offsets of rows.
    void seen(int64_t i, std::vector<int32_t>& at) const {
        const int64_t p = ring.per_step, c = ring.capacity, D = s.width;
        const int64_t step = i < 0 ? -1 : i / p, first = std::max(p * (step - ring.span + 1), int64_t(0));
        at.clear();
        for (int64_t j = std::min(first, i); j <= i; ++j) at.push_back(int32_t((j + c) % c * D));
    }

    void rows(int64_t first, int64_t count) const {
        const int64_t D = s.width, p = ring.per_step, c = ring.capacity, n = count * p;
        const int64_t wide = std::max({2 * D, s.hidden});
        thread_local std::vector<float> scratch;
        thread_local std::vector<int32_t> at;
        scratch.resize(n * (3 * D + 2 * wide) + c + WIDTH);
        float *h = scratch.data(), *q = h + n * D, *top = q + n * D, *in = top + n * D, *out = in + n * wide;
        float *scores = out + n * wide, *own = x + first * p * D;
        for (int64_t layer = 0; layer < s.layers; ++layer) {
            // The last layer has queries of the last token of each row only.
            const int64_t queries = layer + 1 < s.layers ? p : 1;
            norm(own, part(layer, NORM_IN), h, n, D, D);
            product(h, part(layer, KEY_VALUE), out, n, D, 2 * D);
            if constexpr (SPIKING) {
                norm(out, part(layer, K_NORM), out, n, D, 2 * D);
                norm(out + D, part(layer, V_NORM), out + D, n, D, 2 * D);
            }
            float *keys = rings[2 * layer] + first * c * D, *values = rings[2 * layer + 1] + first * c * D;
            for (int64_t r = 0; r < n; ++r) {
                const int64_t row = r / p, place = (row * c + (token(first + row, r % p) + c) % c) * D;
                std::copy_n(out + r * 2 * D, D, keys + place);
                std::copy_n(out + r * 2 * D + D, D, values + place);
            }
            if (queries < p)
                for (int64_t row = 0; row < count; ++row) {
                    std::copy_n(h + (row * p + p - 1) * D, D, h + row * D);
                    std::copy_n(own + (row * p + p - 1) * D, D, own + row * D);
                }
            product(h, part(layer, QUERY), q, count * queries, D, D);
            if constexpr (SPIKING) norm(q, part(layer, Q_NORM), q, count * queries, D, D);
            for (int64_t r = 0; r < count * queries; ++r) {
                const int64_t row = r / queries;
                seen(token(first + row, p - queries + r % queries), at);
                Base::attend(q + r * D, keys + row * c * D, values + row * c * D, at, scores, in + r * D);
            }
            Base::finish(layer, own, in, out, count * queries);
        }
        std::copy_n(own, count * D, last + first * D);
    }

    // Number in its episode of new token i of a row: the action of the step before, the return-to-go, the state.
    int64_t token(int64_t row, int64_t i) const { return ring.per_step * timesteps[row] + i - (ring.per_step > 1); }
};

}  // namespace

extern "C" void decide_f32(float* x, const int64_t* timesteps, float* last, const float* const* weights,
                           float* const* rings, const Shape* shape, const Ring* ring, const Constants* c, int threads) {
    constexpr int64_t together = 16;  // rows whose tokens stay in a second-level cache
    const auto* pairs = reinterpret_cast<const Pair*>(weights);
    const int64_t share = std::min(together, (shape->batch + threads - 1) / threads);
    with_kind(pairs, *c, [&](auto spiking, auto zero) {
        const Firing<float, zero> fire(shape->sim_steps, Neuron<float, zero>(*c));
        const Decision<spiking, zero> decision{{*shape, pairs, fire}, *ring, timesteps, x, last, rings};
        for_blocks(shape->batch, share, int64_t(1) << 30, threads,
                   [&](int64_t first, int64_t count) { decision.rows(first, count); });
    });
}

// The same from the inputs of a decision to its predictions [B, A]. `tensors`: predictions, return-to-go [B], states, last
// actions, timesteps [B], which count up, and the rings.
extern "C" void decide_whole_f32(void* const* tensors, const float* const* weights, const Shape* shape, const Ring* ring,
                                 const Ends* ends, const Constants* c, int threads) {
    const int64_t B = shape->batch, D = shape->width, p = ring->per_step;
    auto* const* numbers = reinterpret_cast<float* const*>(tensors);
    float *predictions = numbers[0], *rtg = numbers[1], *states = numbers[2];
    auto* timesteps = static_cast<int64_t*>(tensors[4]);
    thread_local std::vector<float> scratch;
    scratch.resize(B * (p + 1) * D);
    float *x = scratch.data(), *last = x + B * p * D;
    for (int64_t b = 0; b < B; ++b)
        embed(*ends, rtg[b], states + b * ends->states, tensors[3], b, timesteps[b], x + b * p * D, p, D);
    decide_f32(x, timesteps, last, weights, numbers + 5, shape, ring, c, threads);
    for (int64_t b = 0; b < B; ++b) {
        read_out(*ends, last + b * D, predictions + b * ends->actions, D);
        ++timesteps[b];
    }
}
