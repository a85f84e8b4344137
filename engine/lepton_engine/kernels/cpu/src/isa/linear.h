// Products with a weight in panels (args.h): out[m][n] = x[m] . weight[n], plus what the epilogue adds.
//
// A tile is a few rows of x by one panel. Its sums stay in registers while the panel streams through in the order of
// addresses, which is what memory is fastest at; x is small and comes from the caches. Each sum runs over k in one
// order, so a row's result does not depend on the rows beside it.
#pragma once

#include "activation.h"
#include "vec.h"

namespace lepton::LEPTON_ISA {

constexpr int64_t kPrefetchAhead = 4096;  // bytes
constexpr int kTileColumns = 2;           // registers of a panel's row that a tile has sums for at a time
#if defined(__AVX512F__)
constexpr int kTileMost = 12;  // rows of x in a tile: 24 of 32 registers hold sums
#else
constexpr int kTileMost = 4;
#endif

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

template <class T>
constexpr bool kTakesRowsAsTheyAre = sizeof(typename Product<T>::Element) == sizeof(T);

// Elements from one copied row of x to the next: a cache line off the round numbers that would make rows collide.
inline int64_t copied_stride(const LinearCall& call) { return round_up(call.k, 32) + 32; }

template <class T>
int64_t linear_row_bytes(const LinearCall& call) {
    if (kTakesRowsAsTheyAre<T> && call.k % Product<T>::kStep == 0) return 0;
    return copied_stride(call) * int64_t{sizeof(typename Product<T>::Element)};
}

template <class T>
void linear_rows(const LinearCall& call, int64_t begin, int64_t end, void* rows) {
    using Element = typename Product<T>::Element;
    Element* to = static_cast<Element*>(rows);
    for (int64_t m = begin; m < end; ++m, to += copied_stride(call)) {
        const T* from = static_cast<const T*>(call.x) + m * call.x_stride;
        if constexpr (kTakesRowsAsTheyAre<T>) {
            memcpy(to, from, call.k * sizeof(T));
        } else {
            for_each_vec(call.k, [&](int64_t i, int64_t n) { store_some(to + i, load_some(from + i, n), n); });
        }
        for (int64_t i = call.k; i % Product<T>::kStep; ++i) memset(to + i, 0, sizeof(Element));
    }
}

// M rows of x by one panel of `steps` steps: sums [M][kPanel].
template <class T, int M>
inline void multiply(const typename Product<T>::Element* x, int64_t x_stride, const T* panel, int64_t steps,
                     float* sums) {
    using P = Product<T>;
    constexpr int64_t kRow = kPanel * P::kStep;
    for (int64_t c = 0; c < kPanel; c += kTileColumns * kWidth) {
        Vec tile[M][kTileColumns] = {};
        const T* w = panel + c * P::kStep;
        for (int64_t s = 0; s < steps; ++s) {
            typename P::Column columns[kTileColumns];
#pragma GCC unroll 2
            for (int n = 0; n < kTileColumns; ++n) {
                columns[n] = P::column(w + s * kRow + n * kWidth * P::kStep);
                __builtin_prefetch(reinterpret_cast<const char*>(w + s * kRow + n * kWidth * P::kStep) + kPrefetchAhead, 0, 2);
            }
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m) {
                const auto row = P::row(x + m * x_stride + s * P::kStep);
#pragma GCC unroll 2
                for (int n = 0; n < kTileColumns; ++n) tile[m][n] = P::add(tile[m][n], columns[n], row);
            }
        }
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
            for (int n = 0; n < kTileColumns; ++n) store(sums + m * kPanel + c + n * kWidth, tile[m][n]);
        }
    }
}

// Stores a tile whose first row is row m of x. The columns of a panel are whole registers but in the last panel.
template <class T, class Out>
inline void finish(const LinearCall& call, const float* sums, int64_t m, int64_t rows, int64_t panel) {
    const int64_t width = call.panel_columns(), columns = call.columns(), begin = panel * width;
    const int64_t count = min_of(width, columns - begin);
    const T* bias = static_cast<const T*>(call.bias);
    for (int64_t row = 0; row < rows; ++row, sums += kPanel) {
        const int64_t at = (m + row) * columns + begin;
        Out* out = static_cast<Out*>(call.out) + at;
        const T* residual = call.residual ? static_cast<const T*>(call.residual) + at : nullptr;
        for_each_vec(count, [&](int64_t i, int64_t n) {
            Vec v = load(sums + i);
            if (bias) v = v + load_some(bias + begin + i, n);
            if (call.epilogue == kSiluMul) {
                Vec other = load(sums + kPanel / 2 + i);
                if (bias) other = other + load_some(bias + columns + begin + i, n);
                v = silu(v) * other;
            }
            if (residual) v = v + load_some(residual + i, n);
            store_some(out + i, v, n);
        });
    }
}

template <class T, int M>
inline void linear_tile(const LinearCall& call, const typename Product<T>::Element* x, int64_t x_stride, int64_t m,
                        int64_t panel) {
    constexpr int64_t kStep = Product<T>::kStep;
    const int64_t steps = (call.k + kStep - 1) / kStep;
    alignas(64) float sums[M * kPanel];
    multiply<T, M>(x, x_stride, static_cast<const T*>(call.panels) + panel * steps * kStep * kPanel, steps, sums);
    if (call.out_float) {
        finish<T, float>(call, sums, m, M, panel);
    } else {
        finish<T, T>(call, sums, m, M, panel);
    }
}

template <class T, int M = kTileMost>
inline void linear_tile_of(int64_t rows, const LinearCall& call, const typename Product<T>::Element* x, int64_t x_stride,
                           int64_t m, int64_t panel) {
    if constexpr (M > 0) {
        if (rows == M) {
            linear_tile<T, M>(call, x, x_stride, m, panel);
        } else {
            linear_tile_of<T, M - 1>(rows, call, x, x_stride, m, panel);
        }
    }
}

template <class T>
void linear(const LinearCall& call, const void* rows, int64_t row_begin, int64_t row_end, int64_t panel_begin,
            int64_t panel_end) {
    using Element = typename Product<T>::Element;
    const int64_t x_stride = rows ? copied_stride(call) : call.x_stride;
    const Element* x = static_cast<const Element*>(rows ? rows : call.x) + (rows ? 0 : row_begin * x_stride);
    const int64_t count = row_end - row_begin, tiles = (count + kTileMost - 1) / kTileMost;
    for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
        for (int64_t tile = 0; tile < tiles; ++tile) {
            const int64_t begin = count * tile / tiles, end = count * (tile + 1) / tiles;
            linear_tile_of<T>(end - begin, call, x + begin * x_stride, x_stride, row_begin + begin, panel);
        }
    }
}

}  // namespace lepton::LEPTON_ISA
