// Rows of numbers times a weight matrix, float32: one kernel that adds only what is not zero, one for dense rows.
//
// Layout: x [n, k], y [n, m] and bias [m] row-major; a matrix [k, m] is packed into panels of P columns, [m / P][k][P], the
// last one filled up with zeros: P is 64 for sparse rows, what fills the registers that three dense rows leave otherwise. Sums run over k in order, in blocks of 128: what a first-level cache holds.

#pragma once

#include "lanes.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace {

typedef Vec<float> Reg;
constexpr int64_t WIDTH = LANES<float>;
// LIST: of a list, longer than DEPTH lest the lists' ends compete for the same lines of a cache.
constexpr int64_t PANEL = 64, DEPTH = 128, TOGETHER = 64, LIST = DEPTH + 16;
constexpr int64_t DENSE_PANEL = 4 * WIDTH;

inline Reg load(const float* from) { return get(from); }

// Packs w [m, k], as a linear layer has it, into panels of `columns`.
inline void pack(const float* w, float* to, int64_t k, int64_t m, int64_t columns) {
    for (int64_t p = 0; p < m; p += columns, to += k * columns)
        for (int64_t i = 0; i < k; ++i)
            for (int64_t c = 0; c < columns; ++c) to[i * columns + c] = p + c < m ? w[(p + c) * k + i] : 0.0f;
}

// The numbers of some rows that are not zero, with the offsets of their rows in a panel.
struct Sparse {
    std::vector<int32_t> at = std::vector<int32_t>(LIST * DEPTH);
    std::vector<float> value = std::vector<float>(LIST * DEPTH);
    int64_t count[DEPTH];
};

#if defined(__AVX2__) && !defined(__AVX512F__)
// Of a mask of 8 lanes, the lanes in it.
struct LaneTable {
    alignas(32) int32_t lanes[256][8] = {};
    LaneTable() {
        for (int mask = 0; mask < 256; ++mask)
            for (int i = 0, n = 0; i < 8; ++i)
                if (mask >> i & 1) lanes[mask][n++] = i;
    }
};
const LaneTable LANE_TABLE;
#endif

// Lists the k numbers of x that are not zero; up to WIDTH - 1 entries behind the list are overwritten.
inline int64_t compact(const float* x, int64_t k, int32_t* at, float* value) {
    int64_t n = 0, j = 0;
#if defined(__AVX512F__)
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; j + WIDTH <= k; j += WIDTH) {
        const __m512 v = _mm512_loadu_ps(x + j);
        const __mmask16 mask = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        const __m512i from = _mm512_slli_epi32(_mm512_add_epi32(lanes, _mm512_set1_epi32(int(j))), 6);
        _mm512_storeu_si512(at + n, _mm512_maskz_compress_epi32(mask, from));
        _mm512_storeu_ps(value + n, _mm512_maskz_compress_ps(mask, v));
        n += __builtin_popcount(mask);
    }
#elif defined(__AVX2__)
    for (; j + WIDTH <= k; j += WIDTH) {
        const __m256 v = _mm256_loadu_ps(x + j);
        const int mask = _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NEQ_UQ));
        const __m256i order = _mm256_load_si256(reinterpret_cast<const __m256i*>(LANE_TABLE.lanes[mask]));
        const __m256i from = _mm256_slli_epi32(_mm256_add_epi32(order, _mm256_set1_epi32(int(j))), 6);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(at + n), from);
        _mm256_storeu_ps(value + n, _mm256_permutevar8x32_ps(v, order));
        n += __builtin_popcount(mask);
    }
#endif
    static_assert(PANEL == 1 << 6, "the shift above");
    for (; j < k; ++j) {
        at[n] = int32_t(j * PANEL);
        value[n] = x[j];
        n += x[j] != 0.0f;
    }
    return n;
}

// to = from + sum of value[e] panel[at[e]], for the columns of a panel.
template <size_t... I>
inline void add_listed(std::index_sequence<I...>, const float* panel, const int32_t* at, const float* value, int64_t n,
                       const float* from, float* to) {
    Reg sum[] = {load(from + I * WIDTH)...};
    for (int64_t e = 0; e < n; ++e) {
        const float* row = panel + at[e];
        const Reg v = all(value[e]);
        ((sum[I] = multiply_add<float>(v, load(row + I * WIDTH), sum[I])), ...);
    }
    (put(to + I * WIDTH, sum[I]), ...);
}

inline void add_listed(const float* panel, const int32_t* at, const float* value, int64_t n, const float* from, float* to,
                       int64_t columns) {
    constexpr auto registers = std::make_index_sequence<PANEL / WIDTH>{};
    if (columns >= PANEL) return add_listed(registers, panel, at, value, n, from, to);
    alignas(64) float part[PANEL] = {};
    std::copy_n(from, columns, part);
    add_listed(registers, panel, at, value, n, part, part);
    std::copy_n(part, columns, to);
}

// y = x w + b for sparse rows x, `packed` being w.
inline void sparse_product(const float* x, const float* packed, const float* bias, float* y, int64_t n, int64_t k,
                           int64_t m) {
    thread_local Sparse list;
    for (int64_t first = 0; first < n; first += TOGETHER) {
        const int64_t rows = std::min(TOGETHER, n - first);
        for (int64_t k0 = 0; k0 < k; k0 += DEPTH) {
            for (int64_t r = 0; r < rows; ++r)
                list.count[r] = compact(x + (first + r) * k + k0, std::min(DEPTH, k - k0), &list.at[r * LIST],
                                        &list.value[r * LIST]);
            for (int64_t p = 0; p < m; p += PANEL) {
                const float* panel = packed + p * k + k0 * PANEL;
                const int64_t share = DEPTH * PANEL / rows / 16;  // lines of the next panel to fetch at each row
                for (int64_t r = 0; r < rows; ++r) {
                    for (int64_t i = r * share; i < (r + 1) * share; ++i)
                        __builtin_prefetch(panel + k * PANEL + i * 16, 0, 2);
                    float* to = y + (first + r) * m + p;
                    add_listed(panel, &list.at[r * LIST], &list.value[r * LIST], list.count[r], k0 ? to : bias + p, to,
                               m - p);
                }
            }
        }
    }
}

inline void add_row(Reg& a, Reg& b, Reg& c, Reg w, Reg x, Reg y, Reg z) {
    a = multiply_add<float>(x, w, a);
    b = multiply_add<float>(y, w, b);
    c = multiply_add<float>(z, w, c);
}

// to[r] = from[r] + x[r] panel for three rows r and some registers of columns.
template <size_t... I>
inline void add_dense(std::index_sequence<I...>, const float* panel, const float* const* x, int64_t depth,
                      const float* const* from, float* const* to) {
    Reg a[] = {load(from[0] + I * WIDTH)...}, b[] = {load(from[1] + I * WIDTH)...}, c[] = {load(from[2] + I * WIDTH)...};
    const float *x0 = x[0], *x1 = x[1], *x2 = x[2];
    for (int64_t i = 0; i < depth; ++i, panel += DENSE_PANEL) {
        const Reg y0 = all(x0[i]), y1 = all(x1[i]), y2 = all(x2[i]);
        (add_row(a[I], b[I], c[I], load(panel + I * WIDTH), y0, y1, y2), ...);
    }
    (put(to[0] + I * WIDTH, a[I]), ...);
    (put(to[1] + I * WIDTH, b[I]), ...);
    (put(to[2] + I * WIDTH, c[I]), ...);
}

// y = x w + b for dense rows x, `packed` being w.
inline void dense_product(const float* x, const float* packed, const float* bias, float* y, int64_t n, int64_t k,
                          int64_t m) {
    alignas(64) float part[3][DENSE_PANEL] = {};
    for (int64_t k0 = 0; k0 < k; k0 += DEPTH) {
        for (int64_t p = 0; p < m; p += DENSE_PANEL) {
            const float* panel = packed + p * k + k0 * DENSE_PANEL;
            const int64_t columns = std::min(DENSE_PANEL, m - p);
            for (int64_t r = 0; r < n; r += 3) {
                const float *rows[3], *from[3];
                float *to[3], *direct[3];
                for (int64_t i = 0; i < 3; ++i) {  // the last row again where there are none left
                    const int64_t row = std::min(r + i, n - 1);
                    rows[i] = x + row * k + k0;
                    direct[i] = y + row * m + p;
                    from[i] = k0 ? direct[i] : bias + p;
                    to[i] = columns == DENSE_PANEL ? direct[i] : part[i];
                    if (columns < DENSE_PANEL) from[i] = std::copy_n(from[i], columns, part[i]) - columns;
                }
                add_dense(std::make_index_sequence<4>{}, panel, rows, std::min(DEPTH, k - k0), from, to);
                if (columns < DENSE_PANEL)
                    for (int64_t i = 0; i < 3; ++i) std::copy_n(part[i], columns, direct[i]);
            }
        }
    }
}

}  // namespace
