// Parts of panels in a narrow format, widened to the type that products compute with.
#pragma once

#include "product.h"
#include "vec.h"

namespace lepton::LEPTON_ISA {

constexpr int64_t kChunk = 256;  // columns that are widened at a time: a panel's part stays in the first-level cache

// Columns k to k + 3, lanes from c on, of a panel of type T. All values are integers below 256, or of 4 significant
// bits: exact in any T.
inline void put_four(float* panel, int64_t k, int64_t c, const Vec* values) {
    for (int j = 0; j < 4; ++j) store(panel + (k + j) * kPanel + c, values[j]);
}

inline void put_four(Float16* panel, int64_t k, int64_t c, const Vec* values) {
    for (int j = 0; j < 4; ++j) store(panel + (k + j) * kPanel + c, values[j]);
}

inline void put_four(BFloat16* panel, int64_t k, int64_t c, const Vec* values) {
    for (int j = 0; j < 4; j += 2) {
        const VecBits even = bit_cast<VecBits>(values[j]) >> 16, odd = bit_cast<VecBits>(values[j + 1]) & 0xffff0000;
        const VecBits pairs = even | odd;
        memcpy(static_cast<void*>(panel + (k + j) * kPanel + c * 2), &pairs, sizeof(pairs));
    }
}

inline Vec to_float(VecBits v) { return __builtin_convertvector(bit_cast<VecInt>(v), Vec); }

// 8 bits: sign, 4 of the exponent with bias 7, 3 of the mantissa. Multiplying sets the bias right, subnormals included.
inline Vec float8(VecBits v) {
    const Vec magnitude = bit_cast<Vec>((v & 0x7f) << 20) * broadcast(0x1p120f);
    return bit_cast<Vec>(bit_cast<VecBits>(magnitude) | ((v & 0x80) << 24));
}

#if defined(__AVX512VBMI__)

// The bfloat16 of each byte, as a byte of low halves and one of high halves.
struct ByteTables {
    alignas(64) uint8_t low[256];
    alignas(64) uint8_t high[256];

    explicit ByteTables(Format format) {
        for (int i = 0; i < 256; ++i) {
            const VecBits byte = VecBits{} + static_cast<uint32_t>(i);
            const Vec value = format == kInt8 ? to_float(byte) - broadcast(128.0f) : float8(byte);
            const uint32_t bits = bit_cast<VecBits>(value)[0];
            low[i] = static_cast<uint8_t>(bits >> 16);
            high[i] = static_cast<uint8_t>(bits >> 24);
        }
    }
};

inline __m512i look_up(const uint8_t* table, __m512i index, __mmask64 upper) {
    const __m512i* parts = reinterpret_cast<const __m512i*>(table);
    const __m512i below = _mm512_permutex2var_epi8(_mm512_load_si512(parts), index, _mm512_load_si512(parts + 1));
    const __m512i above = _mm512_permutex2var_epi8(_mm512_load_si512(parts + 2), index, _mm512_load_si512(parts + 3));
    return _mm512_mask_blend_epi8(upper, below, above);
}

// `steps` times four columns of bytes, looked up: a third of the instructions that computing them takes.
inline void widen_bytes(Format format, const char* from, int64_t steps, BFloat16* out) {
    static const ByteTables int8(kInt8), float8(kFloat8);
    const ByteTables& tables = format == kInt8 ? int8 : float8;
    alignas(64) uint8_t order[2][64];
    for (int lane = 0; lane < 16; ++lane) {
        for (int half = 0; half < 2; ++half) {
            for (int i = 0; i < 4; ++i) {  // low, high, low, high of two neighbouring columns
                order[half][lane * 4 + i] = static_cast<uint8_t>(lane * 4 + half * 2 + i / 2 + i % 2 * 64);
            }
        }
    }
    const __m512i first = _mm512_load_si512(order[0]), second = _mm512_load_si512(order[1]);
    for (int64_t s = 0; s < steps; ++s, from += kPanel * 4, out += kPanel * 4) {
        for (int half = 0; half < 2; ++half) {
            __builtin_prefetch(from + half * 64 + kPrefetchAhead, 0, 2);
            const __m512i bytes = _mm512_loadu_si512(from + half * 64);
            const __mmask64 upper = _mm512_movepi8_mask(bytes);
            const __m512i low = look_up(tables.low, bytes, upper), high = look_up(tables.high, bytes, upper);
            _mm512_storeu_si512(out + half * 32, _mm512_permutex2var_epi8(low, first, high));
            _mm512_storeu_si512(out + kPanel * 2 + half * 32, _mm512_permutex2var_epi8(low, second, high));
        }
    }
}

#endif

// Columns [begin, begin + count) of a panel, which lie in one group and begin at a multiple of the format's step.
template <class T>
void dequantize(const LinearWeight& weight, int64_t panel, int64_t begin, int64_t count, T* out) {
    const int64_t step = weight.format == kInt4 ? 8 : 4;
    const int64_t steps = (weight.k + step - 1) / step;
    const char* from = static_cast<const char*>(weight.panels) + (panel * steps + begin / step) * kPanel * 4;
    const int64_t at = (panel * weight.groups() + begin / weight.group) * kPanel;
#if defined(__AVX512VBMI__)
    if constexpr (Product<T>::kStep == 2) {
        if (weight.format != kInt4) {
            widen_bytes(weight.format, from, (count + 3) / 4, out);
            return;
        }
    }
#endif
    for (int64_t k = 0; k < count; k += step, from += kPanel * 4) {
        for (int64_t c = 0; c < kPanel; c += kWidth) {
            VecBits bytes;
            memcpy(&bytes, from + c * 4, sizeof(bytes));
            Vec values[4];
            if (weight.format == kInt4) {
                const Vec zero = weight.zeros ? load(weight.zeros + at + c) : broadcast(kInt4Zero);
                for (int j = 0; j < 4; ++j) values[j] = to_float(bytes >> (8 * j) & 0xf) - zero;
                put_four(out, k, c, values);
                for (int j = 0; j < 4; ++j) values[j] = to_float(bytes >> (8 * j + 4) & 0xf) - zero;
                put_four(out, k + 4, c, values);
            } else {
                for (int j = 0; j < 4; ++j) {
                    const VecBits byte = bytes >> (8 * j) & 0xff;
                    values[j] = weight.format == kInt8 ? to_float(byte) - broadcast(128.0f) : float8(byte);
                }
                put_four(out, k, c, values);
            }
        }
    }
}

}  // namespace lepton::LEPTON_ISA
