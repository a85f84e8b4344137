// Products of integers without VNNI: products of two neighbours are added up, of int16 to int32, of bytes to int16.
#pragma once

#include "integer.h"
#include "product.h"

namespace lepton::LEPTON_ISA {

typedef uint16_t VecShort __attribute__((vector_size(kWidth * 4)));

constexpr int kInt8Most = kTileMost;  // rows in a tile
constexpr int kInt4Most = kTileMost;
constexpr int64_t kFlush = 4;  // steps of int4 whose products int16 holds: 4 * 2 * (15 * 127 + 15 * 127) < 2^15

#if defined(__AVX512F__)
inline VecInt pair_shorts(VecInt a, VecInt b) { return (VecInt)_mm512_madd_epi16((__m512i)a, (__m512i)b); }
inline VecShort pair_bytes(VecInt a, VecInt b) { return (VecShort)_mm512_maddubs_epi16((__m512i)a, (__m512i)b); }
#else
inline VecInt pair_shorts(VecInt a, VecInt b) { return (VecInt)_mm256_madd_epi16((__m256i)a, (__m256i)b); }
inline VecShort pair_bytes(VecInt a, VecInt b) { return (VecShort)_mm256_maddubs_epi16((__m256i)a, (__m256i)b); }
#endif

// sum += products, here and now: the compiler would put sums off until they no longer fit into registers.
template <class V>
inline void add_to(V& sum, V products) {
    sum += products;
#if defined(__AVX512F__)
    asm volatile("" : "+v"(sum));
#else
    asm volatile("" : "+x"(sum));
#endif
}

inline VecInt four_bytes(const int8_t* x) {
    int32_t four;
    memcpy(&four, x, sizeof(four));
    return broadcast_int(four);
}

inline VecInt stored(const uint8_t* p) {
    VecInt v;
    memcpy(&v, p, sizeof(v));
    return v;
}

inline void fetch_row(const uint8_t* w) {
    for (int64_t b = 0; b < kPanel * 4; b += 64) __builtin_prefetch(w + b + kPrefetchAhead, 0, 2);
}

// M rows from m0 on by a panel of int8: sums [M][kPanel].
template <int M>
inline void multiply_int8(const LinearWeight& weight, const void* rows, int64_t m0, int64_t panel, float* sums) {
    constexpr int kColumns = tile_columns(M);
    const int64_t steps = (weight.k + 3) / 4, row_bytes = IntegerRow::bytes(weight);
    const uint8_t* from = static_cast<const uint8_t*>(weight.panels) + panel * steps * kPanel * 4;
    const int8_t* x = IntegerRow(weight, rows, m0).values;
    for (int64_t c = 0; c < kPanel; c += kColumns * kWidth) {
        VecInt tile[M][kColumns] = {};
        const uint8_t* w = from + c * 4;
        for (int64_t s = 0; s < steps; ++s, w += kPanel * 4) {
            if (c == 0) fetch_row(w);
#pragma GCC unroll 2
            for (int part = 0; part < 2; ++part) {  // columns 0 and 2 of four, then 1 and 3
                VecInt columns[kColumns];
#pragma GCC unroll 4
                for (int n = 0; n < kColumns; ++n) {
                    const VecShort four = (VecShort)stored(w + n * kWidth * 4);
                    columns[n] = (VecInt)(part == 0 ? four & 0xff : four >> 8);
                }
#pragma GCC unroll 16
                for (int m = 0; m < M; ++m) {
                    const VecInt row = four_bytes(x + m * row_bytes + s * 8 + part * 4);
#pragma GCC unroll 4
                    for (int n = 0; n < kColumns; ++n) add_to(tile[m][n], pair_shorts(columns[n], row));
                }
            }
        }
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            const IntegerRow row(weight, rows, m0 + m);
#pragma GCC unroll 4
            for (int n = 0; n < kColumns; ++n) {
                const int64_t lane = c + n * kWidth;
                store(sums + m * kPanel + lane, int8_product(weight, row, panel * kPanel + lane, tile[m][n]));
            }
        }
    }
}

// The same by a panel of int4.
template <int M>
inline void multiply_int4(const LinearWeight& weight, const void* rows, int64_t m0, int64_t panel, float* sums) {
    constexpr int kColumns = tile_columns(M);
    const int64_t groups = weight.groups(), steps = (weight.k + 7) / 8, row_bytes = IntegerRow::bytes(weight);
    const uint8_t* from = static_cast<const uint8_t*>(weight.panels) + panel * steps * kPanel * 4;
    const IntegerRow first_row(weight, rows, m0);
    for (int64_t c = 0; c < kPanel; c += kColumns * kWidth) {
        const uint8_t* w = from + c * 4;
        const int8_t* x = first_row.values;
        Vec total[M][kColumns] = {};
        for (int64_t g = 0; g < groups; ++g) {
            VecInt tile[M][kColumns] = {};
            int64_t left = g + 1 < groups ? weight.group / 8 : steps - g * (weight.group / 8);
            for (; left > 0; left -= kFlush) {
                VecShort part[M][kColumns] = {};
                for (int64_t s = min_of(left, kFlush); s > 0; --s, w += kPanel * 4, x += 8) {
                    if (c == 0) fetch_row(w);
#pragma GCC unroll 2
                    for (int half = 0; half < 2; ++half) {
                        VecInt columns[kColumns];
#pragma GCC unroll 4
                        for (int n = 0; n < kColumns; ++n) {
                            const VecShort two = (VecShort)stored(w + n * kWidth * 4);
                            columns[n] = (VecInt)((half == 0 ? two : two >> 4) & 0x0f0f);
                        }
#pragma GCC unroll 16
                        for (int m = 0; m < M; ++m) {
                            const VecInt row = four_bytes(x + m * row_bytes + half * 4);
#pragma GCC unroll 4
                            for (int n = 0; n < kColumns; ++n) add_to(part[m][n], pair_bytes(columns[n], row));
                        }
                    }
                }
#pragma GCC unroll 16
                for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
                    for (int n = 0; n < kColumns; ++n) {
                        tile[m][n] += pair_shorts((VecInt)part[m][n], (VecInt)(VecShort{} + 1));
                    }
                }
            }
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m) {
                const char* at = reinterpret_cast<const char*>(first_row.scales + g) + m * row_bytes;
                const float row_scale = *reinterpret_cast<const float*>(at);
                const int32_t row_sum = *reinterpret_cast<const int32_t*>(at + groups * sizeof(float));
#pragma GCC unroll 4
                for (int n = 0; n < kColumns; ++n) {
                    const int64_t lane = (panel * groups + g) * kPanel + c + n * kWidth;
                    total[m][n] = add_int4_product(total[m][n], weight, row_scale, row_sum, lane, tile[m][n]);
                }
            }
        }
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
            for (int n = 0; n < kColumns; ++n) store(sums + m * kPanel + c + n * kWidth, total[m][n]);
        }
    }
}

}  // namespace lepton::LEPTON_ISA
