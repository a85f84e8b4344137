// One SIMD register of floats, in the width of the instruction set that this file is compiled for.
//
// Each file of isa/ is compiled once for every instruction set, with LEPTON_ISA naming it. All that they define lives in
// namespace lepton::LEPTON_ISA, and they use no inline functions of the standard library: the linker keeps one copy of
// an inline function, and it might keep the one with instructions that the processor lacks.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "../args.h"

namespace lepton::LEPTON_ISA {

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

#if defined(__AVX512BF16__)
constexpr bool kHasBF16Dot = true;
#else
constexpr bool kHasBF16Dot = false;
#endif

// The compiler's own vector types: their operators need no intrinsics, and a * b + c becomes one fused instruction.
typedef float Vec __attribute__((vector_size(kWidth * 4)));
typedef int32_t VecInt __attribute__((vector_size(kWidth * 4)));
typedef uint32_t VecBits __attribute__((vector_size(kWidth * 4)));
typedef uint8_t VecBytes __attribute__((vector_size(kWidth)));
typedef uint16_t VecHalf __attribute__((vector_size(kWidth * 2)));

// Bytes from where a weight is read to where it is fetched.
constexpr int64_t kPrefetchAhead = 4096;

inline int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

inline Vec broadcast(float x) { return x - Vec{}; }
inline VecInt broadcast_int(int32_t x) { return x - VecInt{}; }

template <class To, class From>
inline To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof(To));
    return to;
}

inline Vec max_vec(Vec a, Vec b) { return a > b ? a : b; }

// ---- widths of elements -----------------------------------------------------------------------------------------

// Each is one instruction or few; what the compiler makes of __builtin_convertvector goes by way of halves.
#if defined(__AVX512F__)
inline VecBits to_bits(VecHalf h) { return (VecBits)_mm512_cvtepu16_epi32(bit_cast<__m256i>(h)); }
inline VecBits to_bits(VecBytes b) { return (VecBits)_mm512_cvtepu8_epi32(bit_cast<__m128i>(b)); }
inline VecHalf to_half(VecBits v) { return bit_cast<VecHalf>(_mm512_cvtepi32_epi16((__m512i)v)); }
inline VecBytes to_bytes(VecBits v) { return bit_cast<VecBytes>(_mm512_cvtepi32_epi8((__m512i)v)); }
#elif defined(__AVX2__)
inline VecBits to_bits(VecHalf h) { return (VecBits)_mm256_cvtepu16_epi32(bit_cast<__m128i>(h)); }
inline VecBits to_bits(VecBytes b) { return (VecBits)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bit_cast<int64_t>(b))); }
inline VecHalf to_half(VecBits v) {  // of values below 2^16
    const __m256i packed = _mm256_packus_epi32((__m256i)v, (__m256i)v);
    return bit_cast<VecHalf>(_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
}
inline VecBytes to_bytes(VecBits v) {
    const __m256i first = _mm256_shuffle_epi8((__m256i)v, _mm256_set1_epi32(0x0c080400));
    const __m128i low = _mm256_castsi256_si128(first), high = _mm256_extracti128_si256(first, 1);
    return bit_cast<VecBytes>(_mm_cvtsi128_si64(_mm_unpacklo_epi32(low, high)));
}
#else
inline VecBits to_bits(VecHalf h) { return __builtin_convertvector(h, VecBits); }
inline VecBits to_bits(VecBytes b) { return __builtin_convertvector(b, VecBits); }
inline VecHalf to_half(VecBits v) { return __builtin_convertvector(v, VecHalf); }
inline VecBytes to_bytes(VecBits v) { return __builtin_convertvector(v, VecBytes); }
#endif

// ---- loads and stores -------------------------------------------------------------------------------------------

inline Vec load(const float* p) {
    Vec v;
    memcpy(&v, p, sizeof(v));
    return v;
}

inline Vec widen(VecHalf h, BFloat16) { return bit_cast<Vec>(to_bits(h) << 16); }

#if defined(__AVX512F__)
inline Vec widen(VecHalf h, Float16) { return _mm512_cvtph_ps(bit_cast<__m256i>(h)); }
inline VecHalf narrow(Vec v, Float16) {
    return bit_cast<VecHalf>(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
#elif defined(__F16C__)
inline Vec widen(VecHalf h, Float16) { return _mm256_cvtph_ps(bit_cast<__m128i>(h)); }
inline VecHalf narrow(Vec v, Float16) { return bit_cast<VecHalf>(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)); }
#else
inline Vec widen(VecHalf h, Float16) {
    // Moves exponent and mantissa into place and lets one multiplication fix the bias, subnormals included.
    const VecBits bits = to_bits(h);
    const Vec magnitude = bit_cast<Vec>((bits & 0x7fff) << 13) * broadcast(0x1p112f);
    const VecInt special = (bits & 0x7c00) == 0x7c00;
    const VecBits exponent = bit_cast<VecBits>(special) & 0x7f800000;
    return bit_cast<Vec>(bit_cast<VecBits>(magnitude) | exponent | ((bits & 0x8000) << 16));
}
inline VecHalf narrow(Vec v, Float16) {
    // Adding a power of two whose last bit is the half's last bit rounds to it, ties to even.
    const VecBits bits = bit_cast<VecBits>(v);
    const VecBits sign = bits & 0x80000000;
    const Vec magnitude = bit_cast<Vec>(bits ^ sign);
    const VecBits exponent = bit_cast<VecBits>(magnitude) & 0x7f800000;
    const VecBits least = broadcast_int(0) + VecBits{} + 0x38800000;  // 2^-14, the smallest normal half
    const VecBits floor = exponent > least ? exponent : least;
    const Vec magic = bit_cast<Vec>(floor + (13u << 23));
    const VecBits rounded = bit_cast<VecBits>((magnitude + magic) - magic);
    // Normal halves: rebias; subnormal ones: the value counts units of 2^-24.
    const VecBits normal = (rounded - (112u << 23)) >> 13;
    const VecBits subnormal = bit_cast<VecBits>(__builtin_convertvector(bit_cast<Vec>(rounded) * 0x1p24f, VecInt));
    VecBits half = rounded < least ? subnormal : normal;
    half = bit_cast<Vec>(rounded) > broadcast(65504.0f) ? VecBits{} + 0x7c00 : half;
    half = magnitude != magnitude ? VecBits{} + 0x7e00 : half;
    return to_half(half | (sign >> 16));
}
#endif

#if defined(__AVX512BF16__)
inline VecHalf narrow(Vec v, BFloat16) { return bit_cast<VecHalf>(_mm512_cvtneps_pbh(v)); }
#else
inline VecHalf narrow(Vec v, BFloat16) {
    const VecBits bits = bit_cast<VecBits>(v);
    const VecBits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const VecBits quiet = (bits >> 16) | 0x40;  // rounding could turn a NaN into infinity
    return to_half(v == v ? rounded : quiet);
}
#endif

template <class T>
inline Vec load(const T* p) {
    VecHalf h;
    memcpy(&h, p, sizeof(h));
    return widen(h, T{});
}

inline void store(float* p, Vec v) { memcpy(p, &v, sizeof(v)); }

template <class T>
inline void store(T* p, Vec v) {
    const VecHalf h = narrow(v, T{});
    memcpy(p, &h, sizeof(h));
}

// The first n (0 < n < kWidth) elements; the others are zero and their memory is not touched.
template <class T>
inline Vec load_partial(const T* p, int64_t n) {
#if defined(__AVX512F__)
    const __mmask16 mask = static_cast<__mmask16>((1u << n) - 1);
    if constexpr (sizeof(T) == 4) {
        return _mm512_maskz_loadu_ps(mask, p);
    } else {
        return widen(bit_cast<VecHalf>(_mm256_maskz_loadu_epi16(mask, p)), T{});
    }
#else
    T buffer[kWidth] = {};
    for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
    return load(buffer);
#endif
}

template <class T>
inline void store_partial(T* p, Vec v, int64_t n) {
    T buffer[kWidth];
    store(buffer, v);
    for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
}

// Calls body(offset, count) for the pieces of [0, dim): whole registers, then what is left.
template <class Body>
inline void for_each_vec(int64_t dim, Body&& body) {
    int64_t i = 0;
    for (; i + kWidth <= dim; i += kWidth) body(i, static_cast<int64_t>(kWidth));
    if (i < dim) body(i, dim - i);
}

template <class T>
inline Vec load_some(const T* p, int64_t n) {
    return n == kWidth ? load(p) : load_partial(p, n);
}

template <class T>
inline void store_some(T* p, Vec v, int64_t n) {
    if (n == kWidth) {
        store(p, v);
    } else {
        store_partial(p, v, n);
    }
}

// ---- arithmetic -------------------------------------------------------------------------------------------------

// 2^x to within two units in the last place; exactly zero below -126, NaN stays NaN.
inline Vec exp2_vec(Vec x) {
    // Taylor coefficients of 2^r for r in [-1/2, 1/2]: ln(2)^i / i!.
    constexpr float c1 = 0.693147180559945f, c2 = 0.240226506959101f, c3 = 0.0555041086648216f;
    constexpr float c4 = 0.00961812910762848f, c5 = 0.00133335581464284f, c6 = 0.000154035303933816f;
#if defined(__AVX512F__)
    x = _mm512_max_ps(broadcast(-1000.0f), x);  // of a number and NaN this is the second
    const Vec n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const Vec r = x - n;
#else
    constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low mantissa bits
    const Vec clamped = x > broadcast(127.0f) ? broadcast(127.0f) : x;
    const Vec shifted = clamped + broadcast(magic);
    const Vec r = clamped - (shifted - broadcast(magic));
#endif
    Vec p = broadcast(c6);
    p = p * r + broadcast(c5);
    p = p * r + broadcast(c4);
    p = p * r + broadcast(c3);
    p = p * r + broadcast(c2);
    p = p * r + broadcast(c1);
    p = p * r + broadcast(1.0f);
#if defined(__AVX512F__)
    return _mm512_scalef_ps(p, n);
#else
    const VecInt exponent = bit_cast<VecInt>(shifted) << 23;
    const Vec scaled = bit_cast<Vec>(bit_cast<VecInt>(p) + exponent);
    const Vec result = x < broadcast(-126.0f) ? Vec{} : scaled;
    return x == x ? result : x;
#endif
}

// A transposing sum: lane i of the result is the sum over the lanes of v[i].
inline Vec sum_each(const Vec* v) {
#if defined(__AVX512F__)
    __m512 a[8], b[4], c[2];
    for (int i = 0; i < 8; ++i) {
        a[i] = _mm512_add_ps(_mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]), _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]));
    }
    for (int i = 0; i < 4; ++i) {
        const __m512d lo = _mm512_castps_pd(a[2 * i]), hi = _mm512_castps_pd(a[2 * i + 1]);
        b[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(lo, hi)), _mm512_castpd_ps(_mm512_unpackhi_pd(lo, hi)));
    }
    for (int i = 0; i < 2; ++i) {
        c[i] = _mm512_add_ps(_mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0x88),
                             _mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0xdd));
    }
    return _mm512_add_ps(_mm512_shuffle_f32x4(c[0], c[1], 0x88), _mm512_shuffle_f32x4(c[0], c[1], 0xdd));
#elif defined(__AVX2__)
    __m256 a[4], b[2];
    for (int i = 0; i < 4; ++i) a[i] = _mm256_hadd_ps(v[2 * i], v[2 * i + 1]);
    for (int i = 0; i < 2; ++i) b[i] = _mm256_hadd_ps(a[2 * i], a[2 * i + 1]);
    return _mm256_add_ps(_mm256_permute2f128_ps(b[0], b[1], 0x20), _mm256_permute2f128_ps(b[0], b[1], 0x31));
#else
    Vec sums;
    for (int i = 0; i < kWidth; ++i) sums[i] = (v[i][0] + v[i][2]) + (v[i][1] + v[i][3]);
    return sums;
#endif
}

inline float sum_lanes(Vec v) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps(v);
#else
    float sum = 0;
    for (int i = 0; i < kWidth; ++i) sum += v[i];
    return sum;
#endif
}

inline float max_lanes(Vec v) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps(v);
#else
    float top = v[0];
    for (int i = 1; i < kWidth; ++i) top = v[i] > top ? v[i] : top;
    return top;
#endif
}

// Transposes a square of kWidth x kWidth elements of 32 bits, in registers.
inline void transpose(VecBits* v) {
#if defined(__AVX512F__)
    __m512i a[16], b[16];
    for (int i = 0; i < 8; ++i) {
        a[2 * i] = _mm512_unpacklo_epi32((__m512i)v[2 * i], (__m512i)v[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_epi32((__m512i)v[2 * i], (__m512i)v[2 * i + 1]);
    }
    for (int i = 0; i < 4; ++i) {
        b[4 * i] = _mm512_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 1] = _mm512_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 2] = _mm512_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
        b[4 * i + 3] = _mm512_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
        a[i] = _mm512_shuffle_i32x4(b[i], b[i + 4], 0x88);
        a[i + 4] = _mm512_shuffle_i32x4(b[i], b[i + 4], 0xdd);
        a[i + 8] = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0x88);
        a[i + 12] = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; ++i) {
        v[i] = (VecBits)_mm512_shuffle_i32x4(a[i], a[i + 8], 0x88);
        v[i + 8] = (VecBits)_mm512_shuffle_i32x4(a[i], a[i + 8], 0xdd);
    }
#elif defined(__AVX2__)
    __m256i a[8], b[8];
    for (int i = 0; i < 4; ++i) {
        a[2 * i] = _mm256_unpacklo_epi32((__m256i)v[2 * i], (__m256i)v[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_epi32((__m256i)v[2 * i], (__m256i)v[2 * i + 1]);
    }
    for (int i = 0; i < 2; ++i) {
        b[4 * i] = _mm256_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 1] = _mm256_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 2] = _mm256_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
        b[4 * i + 3] = _mm256_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
        v[i] = (VecBits)_mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
        v[i + 4] = (VecBits)_mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
    }
#else
    for (int i = 0; i < kWidth; ++i) {
        for (int j = 0; j < i; ++j) {
            const uint32_t upper = v[j][i];
            v[j][i] = v[i][j];
            v[i][j] = upper;
        }
    }
#endif
}

}  // namespace lepton::LEPTON_ISA
