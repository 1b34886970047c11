// A stack of transformer blocks, dense or spiking, for the last token only: what one decision needs.
//
// B sequences of L tokens of width D; x [B, L, D] is the residual stream and is overwritten. Each block's weights are 13
// pairs (scale, shift of a norm or packed matrix, bias), in the order of `Part`; a block has neurons where HIDDEN_NORM is
// not null, and routing where ROUTE is not. All that a token needs of others are their keys and values, so threads meet once per block: in phase l an
// item, which is a part of a sequence, finishes block l - 1 and makes queries, keys and values of block l.

#include "blocks.h"

namespace {

template <bool SPIKING, bool Z>
struct Stack : Layers<SPIKING, Z> {
    using Base = Layers<SPIKING, Z>;
    using Base::s, Base::part, Base::norm, Base::product;
    const uint8_t* real;  // [B, L]
    float *x, *q, *kv;    // [B, L, D], [2, B, L, D], [2, B, L, 2 D]: a block's keys are read while the next's are made

    float* queries(int64_t layer) const { return q + layer % 2 * s.batch * s.length * s.width; }
    float* keys(int64_t layer) const { return kv + layer % 2 * s.batch * s.length * 2 * s.width; }

    void start(int64_t layer, int64_t b, int64_t first, int64_t end, float* scratch) const {
        const int64_t D = s.width, rows = end - first;
        float *own_q = queries(layer) + (b * s.length + first) * D, *own_kv = keys(layer) + (b * s.length + first) * 2 * D;
        norm(x + (b * s.length + first) * D, part(layer, NORM_IN), scratch, rows, D, D);
        product(scratch, part(layer, KEY_VALUE), own_kv, rows, D, 2 * D);
        const int64_t skip = layer + 1 < s.layers ? 0 : std::clamp(s.length - 1 - first, int64_t(0), rows);
        product(scratch + skip * D, part(layer, QUERY), own_q + skip * D, rows - skip, D, D);
        if constexpr (SPIKING) {
            norm(own_q + skip * D, part(layer, Q_NORM), own_q + skip * D, rows - skip, D, D);
            norm(own_kv, part(layer, K_NORM), own_kv, rows, D, 2 * D);
            norm(own_kv + D, part(layer, V_NORM), own_kv + D, rows, D, 2 * D);
        }
    }

    void finish(int64_t layer, int64_t b, int64_t begin, int64_t first, int64_t end, float* scratch) const {
        const int64_t D = s.width, most = s.length * std::max(D, s.hidden);
        float *in = scratch, *out = scratch + most, *scores = out + most;
        const float* all_keys = keys(layer) + b * s.length * 2 * D;
        thread_local std::vector<int32_t> at;  // where the keys of the real tokens up to this one are
        for (int64_t i = first; i < end; ++i) {
            at.clear();
            for (int64_t j = begin; j <= i; ++j)
                if (real[b * s.length + j] || j == i) at.push_back(int32_t(j * 2 * D));
            Base::attend(queries(layer) + (b * s.length + i) * D, all_keys, all_keys + D, at, scores, in + (i - first) * D);
        }
        Base::finish(layer, x + (b * s.length + first) * D, in, out, end - first);
    }

    void item(int64_t layer, int64_t b, int64_t part, int64_t parts) const {
        thread_local std::vector<float> scratch;
        scratch.resize(2 * s.length * std::max(s.width, s.hidden) + s.length + WIDTH);
        int64_t begin = 0;  // pads come first: nobody reads them
        while (begin < s.length - 1 && !real[b * s.length + begin]) ++begin;
        const int64_t tokens = s.length - begin, first = begin + tokens * part / parts;
        const int64_t end = begin + tokens * (part + 1) / parts;
        if (first == end) return;
        if (layer == s.layers && end == s.length) finish(layer - 1, b, begin, end - 1, end, scratch.data());
        if (layer == s.layers) return;
        if (layer > 0) finish(layer - 1, b, begin, first, end, scratch.data());
        start(layer, b, first, end, scratch.data());
    }

    void run(int threads) const {
        const int64_t parts = (threads + s.batch - 1) / s.batch;
#pragma omp parallel num_threads(threads)
        for (int64_t layer = 0; layer <= s.layers; ++layer) {
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < s.batch * parts; ++i) item(layer, i / parts, i % parts, parts);
        }
    }
};

}  // namespace

extern "C" void last_token_f32(float* x, const uint8_t* real, const float* const* weights, float* q, float* kv,
                               const Shape* shape, const Constants* c, int threads) {
    const auto* pairs = reinterpret_cast<const Pair*>(weights);
    with_kind(pairs, *c, [&](auto spiking, auto zero) {
        const Firing<float, zero> fire(shape->sim_steps, Neuron<float, zero>(*c));
        Stack<spiking, zero>{{*shape, pairs, fire}, real, x, q, kv}.run(threads);
    });
}
