// How the products of one instruction set take their operands.
#pragma once

#include "vec.h"

namespace lepton::LEPTON_ISA {

// Rows of x in a tile, and how many of the registers hold its sums.
#if defined(__AVX512F__)
constexpr int kTileMost = 12, kTileSums = 24;
#else
constexpr int kTileMost = 6, kTileSums = 12;
#endif
constexpr int kPanelRegisters = kPanel / kWidth;

// Registers of a panel's row that a tile of that many rows has sums for at a time: all, a half, a quarter...
constexpr int tile_columns(int rows) {
    int columns = kPanelRegisters;
    while (columns > 1 && columns * rows > kTileSums) columns /= 2;
    return columns;
}

// What is fetched into the second-level cache meanwhile: `lines` cache lines at every `stride`-th step.
struct Ahead {
    const char* next;
    int64_t lines;
    int64_t stride;
    int64_t wait = 1;

    void step() {
        if (--wait) return;
        wait = stride;
        for (int64_t i = 0; i < lines; ++i, next += 64) __builtin_prefetch(next, 0, 2);
    }
};

// How products take rows of x (Element) and rows of a panel of type T: kStep elements at a time, in kParts products.
template <class T>
struct Product {
    using Element = float;
    using Operand = Vec;
    static constexpr int kStep = 1;
    static constexpr int kParts = 1;
    static Operand column(const T* p, int) { return load(p); }
    static Operand row(const float* x, int) { return broadcast(*x); }
    static Vec add(Vec sum, Operand column, Operand row) { return column * row + sum; }
};

#if defined(__AVX512BF16__)
template <>
struct Product<BFloat16> {
    using Element = BFloat16;
    using Operand = __m512bh;
    static constexpr int kStep = 2;
    static constexpr int kParts = 1;
    static Operand column(const BFloat16* p, int) { return bit_cast<__m512bh>(_mm512_loadu_si512(p)); }
    static Operand row(const BFloat16* x, int) {
        int32_t pair;
        memcpy(&pair, x, sizeof(pair));
        return bit_cast<__m512bh>(_mm512_set1_epi32(pair));
    }
    static Vec add(Vec sum, Operand column, Operand row) { return _mm512_dpbf16_ps(sum, column, row); }
};
#else
// The even elements, then the odd ones: of both at once the sums of a tile would not stay in registers.
template <>
struct Product<BFloat16> {
    using Element = float;
    using Operand = Vec;
    static constexpr int kStep = 2;
    static constexpr int kParts = 2;
    static Operand column(const BFloat16* p, int part) {
        VecBits pairs;
        memcpy(&pairs, p, sizeof(pairs));
        return bit_cast<Vec>(part == 0 ? pairs << 16 : pairs & 0xffff0000);
    }
    static Operand row(const float* x, int part) { return broadcast(x[part]); }
    static Vec add(Vec sum, Operand column, Operand row) { return column * row + sum; }
};
#endif

// What a quantised weight of rows of T is widened to: what its products compute with.
template <bool AsItIs, class T>
struct WidenedOf {
    using type = float;
};
template <class T>
struct WidenedOf<true, T> {
    using type = T;
};
template <class T>
using Widened = typename WidenedOf<sizeof(typename Product<T>::Element) == sizeof(T), T>::type;

}  // namespace lepton::LEPTON_ISA
