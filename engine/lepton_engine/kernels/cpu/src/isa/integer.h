// Products of integers: rows of x quantised to int8, weights of int8 or int4, sums in int32 within a group.
//
// Rows are symmetric: per row where the weight's scale is per channel, per group where it is per group. The processor
// multiplies unsigned by signed, so weights stay as they are stored, unsigned, and their zero point times the sum of
// the row is taken off.
#pragma once

#include "vec.h"

namespace lepton::LEPTON_ISA {

#if defined(__AVX2__)
constexpr bool kHasIntegers = true;
#else
constexpr bool kHasIntegers = false;
#endif

inline bool takes_integers(const LinearWeight& weight) {
    return kHasIntegers && (weight.format == kInt4 || (weight.format == kInt8 && weight.int8_rows));
}

// Whether rows are kept as int16, of each four values 0, 2, 1, 3: without VNNI, products with int8 add up in pairs, and
// of four stored weights the first and the third are got at together.
inline bool takes_shorts(const LinearWeight& weight) {
#if defined(__AVX512VNNI__)
    (void)weight;
    return false;
#else
    return weight.format == kInt8;
#endif
}

// A row of x: its values, then the scale and the sum of each group.
struct IntegerRow {
    int8_t* values;
    float* scales;
    int32_t* sums;

    static int64_t value_bytes(const LinearWeight& weight) {
        return round_up(weight.k, 64) * (takes_shorts(weight) ? 2 : 1);
    }
    static int64_t bytes(const LinearWeight& weight) {
        return value_bytes(weight) + round_up(weight.groups() * 8, 64) + 64;
    }
    IntegerRow(const LinearWeight& weight, const void* rows, int64_t row) {
        char* at = static_cast<char*>(const_cast<void*>(rows)) + row * bytes(weight);
        values = reinterpret_cast<int8_t*>(at);
        scales = reinterpret_cast<float*>(at + value_bytes(weight));
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

// The same, to what put(i, n, integers) makes of them; their sum too.
template <class Put>
inline float quantize_row(const float* x, int64_t count, int32_t* sum, Put&& put) {
    VecInt sums{};
    const float scale = quantize(x, count, [&](int64_t i, int64_t n, Vec v) {
        const VecInt integers = __builtin_convertvector(v, VecInt);
        put(i, n, integers);
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

// kWidth integers of int8's range as takes_shorts() has them.
inline void store_shorts(int8_t* values, int64_t i, VecInt v) {
    uint32_t pairs[kWidth / 2];
    for (int j = 0; j < kWidth / 2; ++j) {
        const int first = j / 2 * 4 + j % 2;
        pairs[j] = (static_cast<uint32_t>(v[first]) & 0xffff) | static_cast<uint32_t>(v[first + 2]) << 16;
    }
    memcpy(values + i * 2, pairs, sizeof(pairs));
}

template <class T>
void integer_rows(const LinearCall& call, int64_t begin, int64_t end, void* rows, float* wide) {
    const LinearWeight& weight = call.weight;
    const bool shorts = takes_shorts(weight);
    for (int64_t m = begin; m < end; ++m) {
        const IntegerRow row(weight, rows, m - begin);
        widen_row<T>(call, m, wide);
        const int64_t size = shorts ? 2 : 1, whole = weight.k / 64 * 64;  // what is beyond k is zero
        memset(row.values + whole * size, 0, IntegerRow::value_bytes(weight) - whole * size);
        for (int64_t g = 0; g < weight.groups(); ++g) {
            const int64_t at = g * weight.group;
            row.scales[g] = quantize_row(wide + at, weight.group, row.sums + g, [&](int64_t i, int64_t n, VecInt v) {
                if (shorts) {
                    store_shorts(row.values, at + i, v);
                } else {
                    const VecBytes bytes = to_bytes(bit_cast<VecBits>(v));
                    memcpy(row.values + at + i, &bytes, n);
                }
            });
        }
    }
}

// What a row's sum with a register of int8 weights stands for.
inline Vec int8_product(const LinearWeight& weight, const IntegerRow& row, int64_t lane, VecInt sum) {
    const Vec scale = load(weight.scales + lane) * broadcast(row.scales[0]);
    return __builtin_convertvector(sum - broadcast_int(128 * row.sums[0]), Vec) * scale;
}

// The same of one group of int4 weights, added to what the groups before it make.
inline Vec add_int4_product(Vec total, const LinearWeight& weight, float row_scale, int32_t row_sum, int64_t lane,
                            VecInt sum) {
    const Vec zero = weight.zeros ? load(weight.zeros + lane) : broadcast(kInt4Zero);
    const Vec product = __builtin_convertvector(sum, Vec) - zero * broadcast(static_cast<float>(row_sum));
    return product * (load(weight.scales + lane) * broadcast(row_scale)) + total;
}

}  // namespace lepton::LEPTON_ISA
