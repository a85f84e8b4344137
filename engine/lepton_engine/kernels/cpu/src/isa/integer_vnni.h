// Products of integers by AVX-512 VNNI, which adds up products of four neighbours.
#pragma once

#include "integer.h"

namespace lepton::LEPTON_ISA {

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
            const int64_t lane = n * kWidth;
            store(sums + m * kPanel + lane, int8_product(weight, row, panel * kPanel + lane, tile[m][n]));
        }
    }
}

// The same by a panel of int4.
template <int M>
inline void multiply_int4(const LinearWeight& weight, const void* rows, int64_t m0, int64_t panel, float* sums) {
    const int64_t groups = weight.groups(), steps = (weight.k + 7) / 8, row_bytes = IntegerRow::bytes(weight);
    const uint8_t* w = static_cast<const uint8_t*>(weight.panels) + panel * steps * kPanel * 4;
    const IntegerRow first_row(weight, rows, m0);
    const int8_t* x = first_row.values;
    const __m512i low = _mm512_set1_epi8(0xf);
    Vec total[M][2] = {};
    for (int64_t g = 0; g < groups; ++g) {
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
        for (int m = 0; m < M; ++m) {
            const char* at = reinterpret_cast<const char*>(first_row.scales + g) + m * row_bytes;
            const float row_scale = *reinterpret_cast<const float*>(at);
            const int32_t row_sum = *reinterpret_cast<const int32_t*>(at + groups * sizeof(float));
            for (int n = 0; n < 2; ++n) {
                const int64_t lane = (panel * groups + g) * kPanel + n * kWidth;
                total[m][n] = add_int4_product(total[m][n], weight, row_scale, row_sum, lane, tile[m][n]);
            }
        }
    }
    for (int m = 0; m < M; ++m) {
        for (int n = 0; n < 2; ++n) store(sums + m * kPanel + n * kWidth, total[m][n]);
    }
}

}  // namespace lepton::LEPTON_ISA
