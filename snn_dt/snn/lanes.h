// Vectors in the compiler's own extension (g++, clang++), as wide as the CPU's registers: wider ones would live in memory.

#pragma once

#include <cstdint>
#include <cstring>
#ifdef __AVX__
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

// While it lives, this thread takes denormal numbers for 0: a sum that decays would stay among them, where an operation
// takes a hundred times as long.
struct FlushDenormals {
#ifdef __SSE2__
    const unsigned before = _mm_getcsr();
    FlushDenormals() { _mm_setcsr(before | 0x8040); }  // flush to zero, denormals are zero
    ~FlushDenormals() { _mm_setcsr(before); }
#endif
};

#if defined(__AVX512F__)
constexpr int64_t REGISTER = 64;
#elif defined(__AVX__)
constexpr int64_t REGISTER = 32;
#else
constexpr int64_t REGISTER = 16;
#endif

template <class F> struct EpisodeStreams;
template <> struct EpisodeStreams<float> {
    typedef float Vec __attribute__((vector_size(REGISTER)));
    typedef int32_t Bits __attribute__((vector_size(REGISTER)));
    static constexpr int32_t no_sign = INT32_MAX;
};
template <> struct EpisodeStreams<double> {
    typedef double Vec __attribute__((vector_size(REGISTER)));
    typedef int64_t Bits __attribute__((vector_size(REGISTER)));
    static constexpr int64_t no_sign = INT64_MAX;
};
template <class F> using Vec = typename EpisodeStreams<F>::Vec;
template <class F> constexpr int64_t LANES = REGISTER / sizeof(F);

template <class F>
inline Vec<F> all(F x) {
    return x - Vec<F>{};  // x + 0 would have to turn -0 into 0
}

template <class F>
inline Vec<F> absolute(Vec<F> x) {
    return (Vec<F>)((typename EpisodeStreams<F>::Bits)x & EpisodeStreams<F>::no_sign);
}

// a b + c rounded once where the CPU can: for gradients only, as a spike must round as torch does.
template <class F>
inline Vec<F> multiply_add(Vec<F> a, Vec<F> b, Vec<F> c) {
#ifdef __AVX512F__
    if constexpr (sizeof(F) == 4) return (Vec<F>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
    if constexpr (sizeof(F) == 8) return (Vec<F>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__FMA__)
    if constexpr (sizeof(F) == 4) return (Vec<F>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
    if constexpr (sizeof(F) == 8) return (Vec<F>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#endif
    return a * b + c;
}

// 1 / x for x >= 1, to the last bit or the one before: a division takes several times as long.
template <class F>
inline Vec<F> reciprocal(Vec<F> x) {
#ifdef __AVX512F__
    if constexpr (sizeof(F) == 4) {
        const __m512 most = _mm512_set1_ps(1e37f);  // where the correction would be infinity times zero
        const Vec<F> bounded = (Vec<F>)_mm512_min_ps((__m512)x, most);
        const Vec<F> y = (Vec<F>)_mm512_rcp14_ps((__m512)bounded);
        return multiply_add<F>(y, multiply_add<F>(-bounded, y, all(F(1))), y);
    }
#endif
    return F(1) / x;
}

// The first m lanes; m is a constant wherever it is the whole vector.
template <class F>
inline Vec<F> get(const F* from, int64_t m = LANES<F>) {
    Vec<F> x = {};
    std::memcpy(&x, from, m * sizeof(F));
    return x;
}

template <class F>
inline void put(F* to, Vec<F> x, int64_t m = LANES<F>) {
    std::memcpy(to, &x, m * sizeof(F));
}

// A whole vector past the caches, `to` aligned: an ordinary store would first read the line that it overwrites.
template <class F>
inline void put_past_cache(F* to, Vec<F> x) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), (__m512i)x);
#elif defined(__AVX__)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to), (__m256i)x);
#else
    put(to, x);
#endif
}

// Before another thread may read what went past the caches.
inline void fence() {
#ifdef __AVX__
    _mm_sfence();
#endif
}

// Calls body(j, m) for lanes j .. j + m of a row: whole vectors, then the rest.
template <class F, class Body>
inline void for_lanes(int64_t width, Body body) {
    int64_t j = 0;
    for (; j + LANES<F> <= width; j += LANES<F>) body(j, LANES<F>);
    if (j < width) body(j, width - j);
}
