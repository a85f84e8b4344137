// Parts of panels in a narrow format, widened to the type that products compute with.
#pragma once

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

// Columns [begin, begin + count) of a panel, which lie in one group and begin at a multiple of the format's step.
template <class T>
void dequantize(const LinearWeight& weight, int64_t panel, int64_t begin, int64_t count, T* out) {
    const int64_t step = weight.format == kInt4 ? 8 : 4;
    const int64_t steps = (weight.k + step - 1) / step;
    const char* from = static_cast<const char*>(weight.panels) + (panel * steps + begin / step) * kPanel * 4;
    const int64_t at = (panel * weight.groups() + begin / weight.group) * kPanel;
    for (int64_t k = 0; k < count; k += step, from += kPanel * 4) {
        for (int64_t c = 0; c < kPanel; c += kWidth) {
            VecBits bytes;
            memcpy(&bytes, from + c * 4, sizeof(bytes));
            Vec values[4];
            if (weight.format == kInt4) {
                const Vec zero = load(weight.zeros + at + c);
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
