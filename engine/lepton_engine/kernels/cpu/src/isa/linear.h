// Products of a few rows with a weight that is read once, as it lies: out[m][n] = x[m] . weight[n] + bias[n].
//
// Both operands are rows, so the product is made of dot products along them. A tile of M rows of x by kWidth / M rows of
// the weight keeps its sums in kWidth registers, and one transposing sum finishes them all.
//
// What bounds it is how fast the weight arrives. A processor recognises reads in the order of addresses and runs ahead of
// them; from tiles, whose reads jump from row to row, it gets half (seen: 12 GB/s in one thread, against 25). So one or
// two rows of x take the weight row by row, and the tiles of more fetch the next tile in the order of addresses.
#pragma once

#include "attention_rows.h"

namespace lepton::LEPTON_ISA {

constexpr int64_t kPrefetchAhead = 2048;  // bytes

// Elements from one packed row of x to the next: a cache line off the round numbers that would make rows collide.
inline int64_t packed_stride(const LinearCall& call) { return round_up(call.k, 32) + 32; }

inline size_t linear_scratch(const LinearCall& call) { return call.m * packed_stride(call) * sizeof(float); }

// Brings x into the form in which the products take it.
template <class T>
void linear_pack(const LinearCall& call, void* packed) {
    using Element = typename Dot<T>::Element;
    for (int64_t m = 0; m < call.m; ++m) {
        Element* row = static_cast<Element*>(packed) + m * packed_stride(call);
        Dot<T>::copy_query(static_cast<const T*>(call.x) + m * call.x_stride, row, call.k);
    }
}

template <class T, int M, int COLS>
inline void linear_finish(const LinearCall& call, const Vec* sums, int64_t m0, int64_t n0) {
    Vec totals = sum_each(sums);
    if (call.bias) {
        const T* from = static_cast<const T*>(call.bias) + n0;
        T bias[kWidth] = {};
        for (int m = 0; m < M; ++m) memcpy(bias + m * COLS, from, COLS * sizeof(T));
        totals = totals + load(bias);
    }
    T results[kWidth];
    store(results, totals);
    T* out = static_cast<T*>(call.out) + m0 * call.n + n0;
    for (int m = 0; m < M; ++m) memcpy(out + m * call.n, results + m * COLS, COLS * sizeof(T));
}

// M rows of x from m0 on against COLS weight rows from n0 on, one weight row after the other: the order of addresses. Few
// sums are alive at a time, so each row of x has several, for every other register of the row.
template <class T, int M, int COLS>
inline void linear_stream(const LinearCall& call, const typename Dot<T>::Element* x, int64_t m0, int64_t n0) {
    using D = Dot<T>;
    constexpr int U = 4;
    const int64_t k = call.k, w_stride = call.weight_stride, x_stride = packed_stride(call);
    const T* w = static_cast<const T*>(call.weight) + n0 * w_stride;
    x += m0 * x_stride;
    Vec sums[kWidth] = {};
    for (int c = 0; c < COLS; ++c, w += w_stride) {
        Vec parts[M][U] = {};
        int64_t i = 0;
        for (; i + U * D::kStep <= k; i += U * D::kStep) {
#pragma GCC unroll 16
            for (int u = 0; u < U; ++u) {
                const auto column = D::load_key(w + i + u * D::kStep);
                __builtin_prefetch(w + i + u * D::kStep + kPrefetchAhead / sizeof(T), 0, 2);
#pragma GCC unroll 16
                for (int m = 0; m < M; ++m) {
                    parts[m][u] = D::add(parts[m][u], column, D::load_query(x + m * x_stride + i + u * D::kStep));
                }
            }
        }
        for (; i < k; i += D::kStep) {
            const auto column = i + D::kStep <= k ? D::load_key(w + i) : D::load_key_partial(w + i, k - i);
            for (int m = 0; m < M; ++m) parts[m][0] = D::add(parts[m][0], column, D::load_query(x + m * x_stride + i));
        }
        for (int m = 0; m < M; ++m) {
            Vec sum = parts[m][0];
            for (int u = 1; u < U; ++u) sum = sum + parts[m][u];
            sums[m * COLS + c] = sum;
        }
    }
    linear_finish<T, M, COLS>(call, sums, m0, n0);
}

template <class T, int M, int COLS>
inline void linear_stream_columns(const LinearCall& call, const typename Dot<T>::Element* x, int64_t begin, int64_t end) {
    int64_t n = begin;
    for (; n + COLS <= end; n += COLS) {
        int64_t m = 0;
        for (; m + M <= call.m; m += M) linear_stream<T, M, COLS>(call, x, m, n);
        for (; m < call.m; ++m) linear_stream<T, 1, COLS>(call, x, m, n);
    }
    for (; n < end; ++n) {
        for (int64_t m = 0; m < call.m; ++m) linear_stream<T, 1, 1>(call, x, m, n);
    }
}

// One tile: M rows of x from m0 on, COLS rows of the weight from n0 on; M * COLS <= kWidth. Fetches LINES registers of
// `next` at each step.
template <class T, int M, int COLS, int LINES>
inline void linear_tile(const LinearCall& call, const typename Dot<T>::Element* x, int64_t m0, int64_t n0,
                        const T* next) {
    using D = Dot<T>;
    const int64_t k = call.k, w_stride = call.weight_stride, x_stride = packed_stride(call);
    const T* w = static_cast<const T*>(call.weight) + n0 * w_stride;
    x += m0 * x_stride;
    Vec sums[kWidth] = {};
    int64_t i = 0;
    for (; i + D::kStep <= k; i += D::kStep) {
        typename D::Operand rows[M];
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) rows[m] = D::load_query(x + m * x_stride + i);
#pragma GCC unroll 16
        for (int line = 0; line < LINES; ++line) __builtin_prefetch(next + i * LINES + line * D::kStep, 0, 2);
#pragma GCC unroll 16
        for (int c = 0; c < COLS; ++c) {
            const auto column = D::load_key(w + c * w_stride + i);
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m) sums[m * COLS + c] = D::add(sums[m * COLS + c], column, rows[m]);
        }
    }
    if (i < k) {
#pragma GCC unroll 16
        for (int c = 0; c < COLS; ++c) {
            const auto column = D::load_key_partial(w + c * w_stride + i, k - i);
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m) {
                sums[m * COLS + c] = D::add(sums[m * COLS + c], column, D::load_query(x + m * x_stride + i));
            }
        }
    }
    linear_finish<T, M, COLS>(call, sums, m0, n0);
}

// Rows of x from m0 on, in groups of M while they end before `stop`, against COLS weight rows from n0 on; returns the
// first row left over. Each group fetches LINES / COLS of the next tile.
template <class T, int M, int COLS, int LINES>
inline int64_t linear_rows(const LinearCall& call, const typename Dot<T>::Element* x, int64_t m0, int64_t stop,
                           int64_t n0) {
    const T* next = static_cast<const T*>(call.weight) + (n0 + COLS) * call.weight_stride;
    for (; m0 + M <= stop; m0 += M) {
        linear_tile<T, M, COLS, LINES>(call, x, m0, n0, next);
        next += call.k * LINES;
    }
    return m0;
}

// Weight rows [begin, end) in tiles of COLS. The first groups of rows fetch the next tile, in equal parts of LINES.
template <class T, int COLS, int LINES>
inline void linear_tile_columns(const LinearCall& call, const typename Dot<T>::Element* x, int64_t begin, int64_t end) {
    const int64_t fetching = min_of(call.m, 4 * COLS / LINES);
    int64_t n = begin;
    for (; n + COLS <= end; n += COLS) {
        int64_t m = linear_rows<T, 4, COLS, LINES>(call, x, 0, fetching, n);
        m = linear_rows<T, 4, COLS, 0>(call, x, m, call.m, n);
        m = linear_rows<T, 2, COLS, 0>(call, x, m, call.m, n);
        linear_rows<T, 1, COLS, 0>(call, x, m, call.m, n);
    }
    for (; n < end; ++n) {
        const int64_t m = linear_rows<T, 4, 1, 0>(call, x, 0, call.m, n);
        linear_rows<T, 1, 1, 0>(call, x, m, call.m, n);
    }
}

template <class T>
void linear(const LinearCall& call, const void* packed, int64_t begin, int64_t end) {
    const auto* x = static_cast<const typename Dot<T>::Element*>(packed);
    constexpr int kColumns = kWidth / 4;
    if (call.m == 1) {
        linear_stream_columns<T, 1, kWidth>(call, x, begin, end);
    } else if (call.m < 4) {
        linear_stream_columns<T, 2, kWidth / 2>(call, x, begin, end);
    } else if (call.m < 16 || kColumns < 4) {
        linear_tile_columns<T, kColumns, kColumns>(call, x, begin, end);
    } else {
        linear_tile_columns<T, kColumns, (kColumns + 3) / 4>(call, x, begin, end);
    }
}

}  // namespace lepton::LEPTON_ISA
