// How the products of one instruction set take their operands.
#pragma once

#include "vec.h"

namespace lepton::LEPTON_ISA {

// How products take rows of x (Element, kStep of them at a time) and rows of a panel of type T.
template <class T>
struct Product {
    using Element = float;
    using Column = Vec;
    using Row = Vec;
    static constexpr int kStep = 1;
    static Column column(const T* p) { return load(p); }
    static Row row(const float* x) { return broadcast(*x); }
    static Vec add(Vec sum, Column column, Row row) { return column * row + sum; }
};

#if defined(__AVX512BF16__)
template <>
struct Product<BFloat16> {
    using Element = BFloat16;
    using Column = __m512bh;
    using Row = __m512bh;
    static constexpr int kStep = 2;
    static Column column(const BFloat16* p) { return bit_cast<__m512bh>(_mm512_loadu_si512(p)); }
    static Row row(const BFloat16* x) {
        int32_t pair;
        memcpy(&pair, x, sizeof(pair));
        return bit_cast<__m512bh>(_mm512_set1_epi32(pair));
    }
    static Vec add(Vec sum, Column column, Row row) { return _mm512_dpbf16_ps(sum, column, row); }
};
#else
template <>
struct Product<BFloat16> {
    using Element = float;
    struct Pair {
        Vec even, odd;
    };
    using Column = Pair;
    using Row = Pair;
    static constexpr int kStep = 2;
    static Column column(const BFloat16* p) {
        VecBits pairs;
        memcpy(&pairs, p, sizeof(pairs));
        return {bit_cast<Vec>(pairs << 16), bit_cast<Vec>(pairs & 0xffff0000)};
    }
    static Row row(const float* x) { return {broadcast(x[0]), broadcast(x[1])}; }
    static Vec add(Vec sum, Column column, Row row) {
        return column.odd * row.odd + (column.even * row.even + sum);
    }
};
#endif

}  // namespace lepton::LEPTON_ISA
