// Products of integers: rows of x quantised to int8, weights of int8 or int4, sums in int32 within a group.
//
// Rows are symmetric: per row where the weight's scale is per channel, per group where it is per group. The processor
// multiplies unsigned by signed, so weights stay as they are stored, unsigned, and their zero point times the sum of
// the row is taken off.
#pragma once

#include "vec.h"

namespace lepton::LEPTON_ISA {

#if defined(__AVX512VNNI__)
constexpr bool kHasIntegers = true;
#else
constexpr bool kHasIntegers = false;
#endif

inline bool takes_integers(const LinearWeight& weight) {
    return kHasIntegers && (weight.format == kInt4 || (weight.format == kInt8 && weight.int8_rows));
}

// A row of x: its values, then the scale and the sum of each group.
struct IntegerRow {
    int8_t* values;
    float* scales;
    int32_t* sums;

    static int64_t bytes(const LinearWeight& weight) {
        return round_up(weight.k, 64) + round_up(weight.groups() * 8, 64) + 64;
    }
    IntegerRow(const LinearWeight& weight, const void* rows, int64_t row) {
        char* at = static_cast<char*>(const_cast<void*>(rows)) + row * bytes(weight);
        values = reinterpret_cast<int8_t*>(at);
        scales = reinterpret_cast<float*>(at + round_up(weight.k, 64));
        sums = reinterpret_cast<int32_t*>(scales + weight.groups());
    }
};

// The factor that makes the largest of count magnitudes `most`; NaN where one of them is infinite or NaN.
inline float scale_of(const float* x, int64_t count, float most) {
    Vec top{}, nothing{};
    for_each_vec(count, [&](int64_t i, int64_t n) {
        const Vec v = load_some(x + i, n);
        top = max_vec(top, max_vec(v, -v));
        nothing = v * broadcast(0.0f) + nothing;
    });
    return max_lanes(top) / most + sum_lanes(nothing);
}

// Divides count values by the scale that symmetric int8 gives them, and rounds; returns the scale. take(i, n, v) gets the
// n integers from i on. Where the scale is NaN they are zeros, and the row's products NaN.
template <class Take>
inline float quantize(const float* x, int64_t count, Take&& take) {
    const float scale = scale_of(x, count, 127.0f);
    const Vec divisor = broadcast(scale), magic = broadcast(12582912.0f);  // 1.5 * 2^23: added and taken off, it rounds
    for_each_vec(count, [&](int64_t i, int64_t n) {
        take(i, n, scale > 0 ? load_some(x + i, n) / divisor + magic - magic : Vec{});
    });
    return scale;
}

// The same, to floats.
inline float quantize_row(const float* x, int64_t count, float* out) {
    return quantize(x, count, [&](int64_t i, int64_t n, Vec v) { store_some(out + i, v, n); });
}

// The same, to bytes, and their sum.
inline float quantize_row(const float* x, int64_t count, int8_t* out, int32_t* sum) {
    VecInt sums{};
    const float scale = quantize(x, count, [&](int64_t i, int64_t n, Vec v) {
        const VecInt integers = __builtin_convertvector(v, VecInt);
        const VecBytes bytes = __builtin_convertvector(integers, VecBytes);
        memcpy(out + i, &bytes, n);
        sums += integers;
    });
    *sum = 0;
    for (int lane = 0; lane < kWidth; ++lane) *sum += sums[lane];
    return scale;
}

template <class T>
inline void widen_row(const LinearCall& call, int64_t m, float* out) {
    const T* x = static_cast<const T*>(call.x) + m * call.x_stride;
    const int64_t k = call.weight.k;
    if (call.weight.permutation) {
        for (int64_t i = 0; i < k; ++i) {
            T one[kWidth] = {x[call.weight.permutation[i]]};
            out[i] = load(one)[0];
        }
    } else {
        for_each_vec(k, [&](int64_t i, int64_t n) { store_some(out + i, load_some(x + i, n), n); });
    }
}

template <class T>
void integer_rows(const LinearCall& call, int64_t begin, int64_t end, void* rows, float* wide) {
    const LinearWeight& weight = call.weight;
    for (int64_t m = begin; m < end; ++m) {
        const IntegerRow row(weight, rows, m - begin);
        widen_row<T>(call, m, wide);
        for (int64_t g = 0; g < weight.groups(); ++g) {
            const int64_t at = g * weight.group;
            row.scales[g] = quantize_row(wide + at, weight.group, row.values + at, row.sums + g);
        }
        for (int64_t i = weight.k; i < round_up(weight.k, 64); ++i) row.values[i] = 0;
    }
}

#if defined(__AVX512VNNI__)

constexpr int kInt8Most = 12;  // rows in a tile
constexpr int kInt4Most = 6;  // whose sums are of two kinds

inline __m512i four_values(const int8_t* x) {
    int32_t four;
    memcpy(&four, x, sizeof(four));
    return _mm512_set1_epi32(four);
}

// Sums are vectors of int32 to the compiler: those of __m512i it moves about between any two products.
inline VecInt add_products(VecInt sum, __m512i weight, __m512i row) {
    return (VecInt)_mm512_dpbusd_epi32((__m512i)sum, weight, row);
}

inline __m512i stored(const uint8_t* p) {
    __builtin_prefetch(p + kPrefetchAhead, 0, 2);
    return _mm512_loadu_si512(p);
}

// M rows from m on by a panel of int8: sums [M][kPanel].
template <int M>
inline void multiply_int8(const LinearWeight& weight, const void* rows, int64_t m0, int64_t panel, float* sums) {
    const int64_t steps = (weight.k + 3) / 4, row_bytes = IntegerRow::bytes(weight);
    const uint8_t* w = static_cast<const uint8_t*>(weight.panels) + panel * steps * kPanel * 4;
    const int8_t* x = IntegerRow(weight, rows, m0).values;
    VecInt tile[M][2] = {};
    for (int64_t s = 0; s < steps; ++s, w += kPanel * 4) {
        const __m512i first = stored(w), second = stored(w + 64);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            const __m512i row = four_values(x + m * row_bytes + s * 4);
            tile[m][0] = add_products(tile[m][0], first, row);
            tile[m][1] = add_products(tile[m][1], second, row);
        }
    }
    for (int m = 0; m < M; ++m) {
        const IntegerRow row(weight, rows, m0 + m);
        for (int n = 0; n < 2; ++n) {
            const VecInt sum = tile[m][n] - broadcast_int(128 * row.sums[0]);
            const Vec scale = load(weight.scales + panel * kPanel + n * kWidth) * broadcast(row.scales[0]);
            store(sums + m * kPanel + n * kWidth, __builtin_convertvector(sum, Vec) * scale);
        }
    }
}

// The same by a panel of int4.
template <int M>
inline void multiply_int4(const LinearWeight& weight, const void* rows, int64_t m0, int64_t panel, float* sums) {
    const int64_t groups = weight.groups(), steps = (weight.k + 7) / 8, row_bytes = IntegerRow::bytes(weight);
    const uint8_t* w = static_cast<const uint8_t*>(weight.panels) + panel * steps * kPanel * 4;
    const float* scales = weight.scales + panel * groups * kPanel;
    const float* zeros = weight.zeros ? weight.zeros + panel * groups * kPanel : nullptr;
    const IntegerRow first_row(weight, rows, m0);
    const int8_t* x = first_row.values;
    const __m512i low = _mm512_set1_epi8(0xf);
    Vec total[M][2] = {};
    for (int64_t g = 0; g < groups; ++g, scales += kPanel) {
        const int64_t in_group = g + 1 < groups ? weight.group / 8 : steps - g * (weight.group / 8);
        // Few rows: the sums of the low and of the high halves are apart, so that fewer wait for each other.
        constexpr bool kApart = M <= 2;
        VecInt tile[M][2] = {}, more[kApart ? M : 1][2] = {};
        for (int64_t s = 0; s < in_group; ++s, w += kPanel * 4, x += 8) {
            const __m512i first = stored(w), second = stored(w + 64);
            const __m512i a0 = _mm512_and_si512(first, low), a1 = _mm512_and_si512(second, low);
            const __m512i b0 = _mm512_and_si512(_mm512_srli_epi16(first, 4), low);
            const __m512i b1 = _mm512_and_si512(_mm512_srli_epi16(second, 4), low);
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m) {
                const __m512i a = four_values(x + m * row_bytes), b = four_values(x + m * row_bytes + 4);
                tile[m][0] = add_products(tile[m][0], a0, a);
                tile[m][1] = add_products(tile[m][1], a1, a);
                VecInt* high = kApart ? more[m] : tile[m];
                high[0] = add_products(high[0], b0, b);
                high[1] = add_products(high[1], b1, b);
            }
        }
        for (int m = 0; kApart && m < M; ++m) {
            for (int n = 0; n < 2; ++n) tile[m][n] += more[m][n];
        }
        for (int n = 0; n < 2; ++n) {
            const Vec scale = load(scales + n * kWidth);
            const Vec zero = zeros ? load(zeros + g * kPanel + n * kWidth) : broadcast(kInt4Zero);
            for (int m = 0; m < M; ++m) {
                const char* at = reinterpret_cast<const char*>(first_row.scales + g) + m * row_bytes;
                const float row_scale = *reinterpret_cast<const float*>(at);
                const int32_t row_sum = *reinterpret_cast<const int32_t*>(at + groups * sizeof(float));
                const Vec sum = __builtin_convertvector(tile[m][n], Vec) - zero * broadcast(row_sum);
                total[m][n] = sum * (scale * broadcast(row_scale)) + total[m][n];
            }
        }
    }
    for (int m = 0; m < M; ++m) {
        for (int n = 0; n < 2; ++n) store(sums + m * kPanel + n * kWidth, total[m][n]);
    }
}

#endif

}  // namespace lepton::LEPTON_ISA
