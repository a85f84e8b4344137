// Products with a weight in panels (args.h): out[m][n] = x[m] . weight[n], plus what the epilogue adds.
//
// A tile is a few rows of x by one panel. Its sums stay in registers while the panel streams through in the order of
// addresses, which is what memory is fastest at; x is small and comes from the caches. Each sum runs over k in one
// order, so a row's result does not depend on the rows beside it.
#pragma once

#include "activation.h"
#include "dequantize.h"
#if defined(__AVX512VNNI__)
#include "integer_vnni.h"
#elif defined(__AVX2__)
#include "integer_madd.h"
#else
#include "integer.h"
#endif
#include "product.h"
#include "vec.h"

namespace lepton::LEPTON_ISA {

template <int Count>
struct Rows {
    static constexpr int kCount = Count;
};

template <class T>
constexpr bool kComputesInFloats = sizeof(typename Product<T>::Element) == sizeof(float);
template <class T>
constexpr bool kTakesRowsAsTheyAre = sizeof(typename Product<T>::Element) == sizeof(T);

// Elements from one copied row of x to the next: a cache line off the round numbers that would make rows collide.
inline int64_t copied_stride(const LinearWeight& weight) { return round_up(weight.k, 32) + 32; }

template <class T>
int64_t linear_row_bytes(const LinearCall& call) {
    const LinearWeight& weight = call.weight;
    if (takes_integers(weight)) return IntegerRow::bytes(weight);
    const bool whole = weight.k % panel_step(kBFloat16, weight.format) == 0;
    if (kTakesRowsAsTheyAre<T> && whole && !weight.permutation && !weight.int8_rows) return 0;
    return copied_stride(weight) * int64_t{sizeof(typename Product<T>::Element)};
}

// A row that has been widened to floats, in scratch memory of round_up(k, 32) of them.
inline int64_t wide_row_bytes(const LinearWeight& weight) { return round_up(weight.k, 32) * int64_t{sizeof(float)}; }

template <class T>
void linear_rows(const LinearCall& call, int64_t begin, int64_t end, void* rows, void* scratch) {
    using Element = typename Product<T>::Element;
    const LinearWeight& weight = call.weight;
    float* wide = static_cast<float*>(scratch);
    if (takes_integers(weight)) {
        integer_rows<T>(call, begin, end, rows, wide);
        return;
    }
    Element* to = static_cast<Element*>(rows);
    for (int64_t m = begin; m < end; ++m, to += copied_stride(weight)) {
        memset(static_cast<void*>(to), 0, copied_stride(weight) * sizeof(Element));
        widen_row<T>(call, m, wide);
        if (weight.int8_rows) {
            const Vec scale = broadcast(quantize_row(wide, weight.k, wide));
            for_each_vec(weight.k, [&](int64_t i, int64_t n) { store_some(wide + i, load_some(wide + i, n) * scale, n); });
        }
        for_each_vec(weight.k, [&](int64_t i, int64_t n) { store_some(to + i, load_some(wide + i, n), n); });
    }
}

// M rows of x by `steps` steps of a panel: sums [M][kPanel], which go on from what they are if `more`.
template <class T, int M>
inline void multiply(const typename Product<T>::Element* x, int64_t x_stride, const T* panel, int64_t steps,
                     float* sums, bool more, Ahead& ahead) {
    using P = Product<T>;
    constexpr int kColumns = tile_columns(M);
    constexpr int64_t kRow = kPanel * P::kStep;
    for (int64_t c = 0; c < kPanel; c += kColumns * kWidth) {
        Vec tile[M][kColumns];
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
            for (int n = 0; n < kColumns; ++n) tile[m][n] = more ? load(sums + m * kPanel + c + n * kWidth) : Vec{};
        }
        const T* w = panel + c * P::kStep;
        for (int64_t s = 0; s < steps; ++s) {
            ahead.step();
#pragma GCC unroll 2
            for (int part = 0; part < P::kParts; ++part) {
                typename P::Operand columns[kColumns];
#pragma GCC unroll 8
                for (int n = 0; n < kColumns; ++n) {
                    columns[n] = P::column(w + s * kRow + n * kWidth * P::kStep, part);
                }
#pragma GCC unroll 16
                for (int m = 0; m < M; ++m) {
                    const auto row = P::row(x + m * x_stride + s * P::kStep, part);
#pragma GCC unroll 8
                    for (int n = 0; n < kColumns; ++n) tile[m][n] = P::add(tile[m][n], columns[n], row);
                }
            }
        }
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
            for (int n = 0; n < kColumns; ++n) store(sums + m * kPanel + c + n * kWidth, tile[m][n]);
        }
    }
}

// Stores rows [m, m + rows) of a panel's products. The columns of a panel are whole registers but in the last panel.
template <class T, class Out>
inline void finish(const LinearCall& call, const float* sums, int64_t m, int64_t rows, int64_t panel) {
    const LinearWeight& weight = call.weight;
    const int64_t width = weight.panel_columns(), columns = weight.columns(), begin = panel * width;
    const int64_t count = min_of(width, columns - begin);
    const T* bias = static_cast<const T*>(call.bias);
    for (int64_t row = 0; row < rows; ++row, sums += kPanel) {
        const int64_t at = (m + row) * columns + begin;
        Out* out = static_cast<Out*>(call.out) + at;
        const T* residual = call.residual ? static_cast<const T*>(call.residual) + at : nullptr;
        for_each_vec(count, [&](int64_t i, int64_t n) {
            Vec v = load(sums + i);
            if (bias) v = v + load_some(bias + begin + i, n);
            if (weight.gated) {
                Vec other = load(sums + kPanel / 2 + i);
                if (bias) other = other + load_some(bias + columns + begin + i, n);
                v = silu(v) * other;
            }
            if (residual) v = v + load_some(residual + i, n);
            store_some(out + i, v, n);
        });
    }
}

template <class T>
inline void finish_panel(const LinearCall& call, const float* sums, int64_t m, int64_t rows, int64_t panel) {
    if (call.out_float) {
        finish<T, float>(call, sums, m, rows, panel);
    } else {
        finish<T, T>(call, sums, m, rows, panel);
    }
}

// Calls body.template operator()<M>() for the M that is `rows`, 1 to Most.
template <int Most, class Body>
inline void for_rows(int64_t rows, Body&& body) {
    if constexpr (Most > 0) {
        if (rows == Most) {
            body(Rows<Most>{});
        } else {
            for_rows<Most - 1>(rows, body);
        }
    }
}

// Cuts count rows into tiles of Most, and what is left: that finds the panel in the caches.
template <int Most, class Body>
inline void for_tiles(int64_t count, Body&& body) {
    for (int64_t begin = 0; begin < count; begin += Most) {
        for_rows<Most>(min_of(Most, count - begin), [&](auto rows) { body(rows, begin); });
    }
}

// Brings in the next part of a panel, of that many bytes a step, evenly over the passes of all tiles.
inline Ahead spread(int64_t count, const void* from, int64_t bytes_a_step) {
    int64_t passes = 0;
    for_tiles<kTileMost>(count, [&](auto tile, int64_t) { passes += kPanelRegisters / tile_columns(tile.kCount); });
    return {static_cast<const char*>(from), 1, max_of(passes * 64 / bytes_a_step, 1)};
}

// The rows of a call that are multiplied together, in the form that products take.
template <class T>
struct Operand {
    const typename Product<T>::Element* x;
    int64_t stride;

    Operand(const LinearCall& call, const void* rows, int64_t row_begin) {
        using Element = typename Product<T>::Element;
        stride = rows ? copied_stride(call.weight) : call.x_stride;
        x = rows ? static_cast<const Element*>(rows) : static_cast<const Element*>(call.x) + row_begin * stride;
    }
};

// Columns of a panel that stay in the first-level cache while all rows are multiplied with them.
constexpr int64_t kPart = 128;

// Columns [begin, begin + count) of a panel as floats: where they lie, or widened into memory.
inline const float* as_floats(const float* panel, int64_t begin, int64_t, float*) { return panel + begin * kPanel; }

inline const float* as_floats(const Float16* panel, int64_t begin, int64_t count, float* to) {
    for (int64_t i = 0; i < count * kPanel; i += kWidth) store(to + i, load(panel + begin * kPanel + i));
    return to;
}

inline const float* as_floats(const BFloat16* panel, int64_t begin, int64_t count, float* to) {
    for (int64_t k = 0; k < count; k += 2) {
        for (int64_t c = 0; c < kPanel; c += kWidth) {
            VecBits pairs;
            memcpy(&pairs, panel + (begin + k) * kPanel + c * 2, sizeof(pairs));
            store(to + k * kPanel + c, bit_cast<Vec>(pairs << 16));
            store(to + (k + 1) * kPanel + c, bit_cast<Vec>(pairs & 0xffff0000));
        }
    }
    return to;
}

// More rows than a tile has, in floats: part by part of the panel. The sums are those of the panel at once.
template <class T>
void linear_parts(const LinearCall& call, const Operand<T>& operand, void* scratch, const T* from, int64_t columns,
                  int64_t row_begin, int64_t count, int64_t panel) {
    float* widened = static_cast<float*>(scratch);
    float* sums = widened + kPart * kPanel;
    Ahead ahead = spread(count, from + kPart * kPanel, kPanel * int64_t{sizeof(T)});
    for (int64_t k = 0; k < columns; k += kPart) {
        const int64_t steps = min_of(kPart, columns - k);
        const float* part = as_floats(from, k, steps, widened);
        for_tiles<kTileMost>(count, [&](auto tile, int64_t begin) {
            multiply<float, tile.kCount>(operand.x + begin * operand.stride + k, operand.stride, part, steps,
                                         sums + begin * kPanel, k > 0, ahead);
        });
    }
    finish_panel<T>(call, sums, row_begin, count, panel);
}

template <class T>
void linear_plain(const LinearCall& call, const void* rows, void* scratch, int64_t row_begin, int64_t row_end,
                  int64_t panel) {
    constexpr int64_t kStep = Product<T>::kStep;
    const Operand<T> operand(call, rows, row_begin);
    const int64_t steps = (call.weight.k + kStep - 1) / kStep, count = row_end - row_begin;
    const T* from = static_cast<const T*>(call.weight.panels) + panel * steps * kStep * kPanel;
    if constexpr (kComputesInFloats<T>) {
        if (count > kTileSums / kPanelRegisters) {  // not in one pass
            linear_parts<T>(call, operand, scratch, from, steps * kStep, row_begin, count, panel);
            return;
        }
    }
    for_tiles<kTileMost>(count, [&](auto tile, int64_t begin) {
        alignas(64) float sums[tile.kCount * kPanel];
        Ahead ahead{reinterpret_cast<const char*>(from) + kPrefetchAhead, kStep * kPanel * int64_t{sizeof(T)} / 64, 1};
        multiply<T, tile.kCount>(operand.x + begin * operand.stride, operand.stride, from, steps, sums, false, ahead);
        finish_panel<T>(call, sums, row_begin + begin, tile.kCount, panel);
    });
}

// Widens the panel part by part and multiplies each with all rows.
template <class T>
void linear_widened(const LinearCall& call, const void* rows, void* scratch, int64_t row_begin, int64_t row_end,
                    int64_t panel) {
    using Wide = Widened<T>;
    const LinearWeight& weight = call.weight;
    constexpr int64_t kStep = Product<Wide>::kStep;
    const Operand<T> operand(call, rows, row_begin);
    Wide* widened = static_cast<Wide*>(scratch);
    float* totals = reinterpret_cast<float*>(widened + kChunk * kPanel);
    const int64_t count = row_end - row_begin;
    memset(totals, 0, count * kPanel * sizeof(float));
    for (int64_t group = 0; group < weight.groups(); ++group) {
        const float* scales = weight.scales + (panel * weight.groups() + group) * kPanel;
        const int64_t end = (group + 1) * weight.group;
        for (int64_t k = group * weight.group; k < end; k += kChunk) {
            const int64_t columns = min_of(kChunk, end - k);
            dequantize(weight, panel, k, columns, widened);
            const int64_t steps = round_up(columns, panel_step(kBFloat16, weight.format)) / kStep;
            for_tiles<kTileMost>(count, [&](auto tile, int64_t begin) {
                alignas(64) float sums[tile.kCount * kPanel];
                const Wide* x = operand.x + begin * operand.stride + k;
                Ahead nothing{nullptr, 0, 1};
                multiply<Wide, tile.kCount>(x, operand.stride, widened, steps, sums, false, nothing);
                for (int64_t i = 0; i < tile.kCount * kPanel; i += kWidth) {
                    float* total = totals + begin * kPanel + i;
                    store(total, load(sums + i) * load(scales + i % kPanel) + load(total));
                }
            });
        }
    }
    finish_panel<T>(call, totals, row_begin, count, panel);
}

template <class T>
void linear_integers(const LinearCall& call, const void* rows, int64_t row_begin, int64_t row_end, int64_t panel) {
#if defined(__AVX2__)
    const auto multiply_tiles = [&](auto most, auto&& multiply_rows) {
        for_tiles<most.kCount>(row_end - row_begin, [&](auto tile, int64_t begin) {
            alignas(64) float sums[tile.kCount * kPanel];
            multiply_rows(tile, begin, sums);
            finish_panel<T>(call, sums, row_begin + begin, tile.kCount, panel);
        });
    };
    if (call.weight.format == kInt8) {
        multiply_tiles(Rows<kInt8Most>{}, [&](auto tile, int64_t begin, float* sums) {
            multiply_int8<tile.kCount>(call.weight, rows, begin, panel, sums);
        });
    } else {
        multiply_tiles(Rows<kInt4Most>{}, [&](auto tile, int64_t begin, float* sums) {
            multiply_int4<tile.kCount>(call.weight, rows, begin, panel, sums);
        });
    }
#else
    (void)call, (void)rows, (void)row_begin, (void)row_end, (void)panel;  // takes_integers() is false
#endif
}

template <class T>
int64_t linear_scratch(const LinearCall& call, int64_t rows) {
    const bool plain = call.weight.format == kPlain;
    const int64_t sums = rows * kPanel * int64_t{sizeof(float)};
    const int64_t widened = plain ? kPart * kPanel * int64_t{sizeof(float)} : kChunk * kPanel * int64_t{sizeof(Widened<T>)};
    return max_of(wide_row_bytes(call.weight), plain && !kComputesInFloats<T> ? 0 : widened + sums);
}

template <class T>
void linear(const LinearCall& call, const void* rows, void* scratch, int64_t row_begin, int64_t row_end,
            int64_t panel_begin, int64_t panel_end) {
    for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
        if (takes_integers(call.weight)) {
            linear_integers<T>(call, rows, row_begin, row_end, panel);
        } else if (call.weight.format == kPlain) {
            linear_plain<T>(call, rows, scratch, row_begin, row_end, panel);
        } else {
            linear_widened<T>(call, rows, scratch, row_begin, row_end, panel);
        }
    }
}

}  // namespace lepton::LEPTON_ISA
