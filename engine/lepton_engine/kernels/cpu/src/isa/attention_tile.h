// Attention of many rows (queries times the heads that share a key/value head) at once, flash-style.
//
// Rows lie in the lanes of the registers: scores and weights are kept transposed, [keys][rows], and the output
// [dim][rows]. So the softmax needs no sums across lanes, and keys enter the product as they lie in the cache, one
// broadcast element at a time; only the queries are packed, once a task.
#pragma once

#include "attention_common.h"

namespace lepton::LEPTON_ISA {

constexpr int64_t kTileRows = 48;  // rows of a task: a multiple of three registers in every instruction set
constexpr int64_t kTileKeys = 64;  // keys between two updates of the running softmax
constexpr int kUnitRows = kWidth == 16 ? 8 : 4;  // of the product's inner tile: kUnitRows x 3 sums stay in registers

// Products over float elements: one element of 32 bits a step.
template <class T>
struct FloatUnits {
    static constexpr int kPerUnit = 1;
    static Vec add(Vec sum, VecBits a, VecBits b) { return bit_cast<Vec>(a) * bit_cast<Vec>(b) + sum; }
};

#if defined(__AVX512BF16__)
// Products over bfloat16: a pair of elements a step.
struct PairUnits {
    static constexpr int kPerUnit = 2;
    static Vec add(Vec sum, VecBits a, VecBits b) {
        return _mm512_dpbf16_ps(sum, bit_cast<__m512bh>(a), bit_cast<__m512bh>(b));
    }
};
#endif

template <class T>
struct UnitsOf {
    using type = FloatUnits<T>;
};
#if defined(__AVX512BF16__)
template <>
struct UnitsOf<BFloat16> {
    using type = PairUnits;
};
#endif

// c[i][r] = c[i][r] * rescale[r] + sum over steps of a[i][step * a_step] * b[step][r], for kUnitRows rows of c and
// N registers of lanes; without rescale c starts at zero. Rows of b and c are kTileRows apart.
template <class Units, int N>
inline void multiply(const uint32_t* const* a, int64_t a_step, const uint32_t* b, int64_t steps, const float* rescale,
                     float* c) {
    Vec sums[kUnitRows][N];
    for (int i = 0; i < kUnitRows; ++i) {
        for (int n = 0; n < N; ++n) {
            sums[i][n] = rescale ? load(c + i * kTileRows + n * kWidth) * load(rescale + n * kWidth) : Vec{};
        }
    }
    for (int64_t step = 0; step < steps; ++step) {
        VecBits lanes[N];
        for (int n = 0; n < N; ++n) memcpy(&lanes[n], b + step * kTileRows + n * kWidth, sizeof(VecBits));
#pragma GCC unroll 8
        for (int i = 0; i < kUnitRows; ++i) {
            const VecBits element = VecBits{} + a[i][step * a_step];
            for (int n = 0; n < N; ++n) sums[i][n] = Units::add(sums[i][n], element, lanes[n]);
        }
    }
    for (int i = 0; i < kUnitRows; ++i) {
        for (int n = 0; n < N; ++n) store(c + i * kTileRows + n * kWidth, sums[i][n]);
    }
}

// The same for all lanes that the task uses.
template <class Units>
inline void multiply_lanes(const uint32_t* const* a, int64_t a_step, const uint32_t* b, int64_t steps,
                           const float* rescale, float* c, int64_t registers) {
    for (int64_t n = 0; n < registers; n += 3) {
        const int64_t lane = n * kWidth, left = registers - n;
        const float* factor = rescale ? rescale + lane : nullptr;
        if (left >= 3) {
            multiply<Units, 3>(a, a_step, b + lane, steps, factor, c + lane);
        } else if (left == 2) {
            multiply<Units, 2>(a, a_step, b + lane, steps, factor, c + lane);
        } else {
            multiply<Units, 1>(a, a_step, b + lane, steps, factor, c + lane);
        }
    }
}

template <class T>
struct TileScratch {
    static constexpr int kPerUnit = UnitsOf<T>::type::kPerUnit;
    uint32_t* query;    // [units of dim][kTileRows]
    uint32_t* wide;     // keys as floats, [kTileKeys][dim], where T isn't multiplied as it is
    uint32_t* values;   // [units of kTileKeys][dim_stride]
    uint32_t* weights;  // [units of kTileKeys][kTileRows]
    float* scores;      // [kTileKeys][kTileRows]
    float* acc;         // [dim_stride][kTileRows]
    float *max, *sum, *rescale, *row;
    int32_t *first_key, *last_key;  // that each row sees
    T* widened;                     // keys and values of a quantised cache
    int64_t dim_units, dim_stride, bytes;

    TileScratch(const AttentionCall& call, void* memory) {
        dim_units = (call.cache.head_dim + kPerUnit - 1) / kPerUnit;
        dim_stride = round_up(call.cache.head_dim, 16);
        uint32_t* next = static_cast<uint32_t*>(memory);
        const auto take = [&](int64_t count) {
            uint32_t* taken = next;
            next += round_up(count, 16);
            return taken;
        };
        query = take(round_up(dim_units, 16) * kTileRows);
        wide = take(kTileKeys * dim_stride);
        values = take(kTileKeys / kPerUnit * dim_stride);
        weights = take(kTileKeys / kPerUnit * kTileRows);
        scores = reinterpret_cast<float*>(take(kTileKeys * kTileRows));
        acc = reinterpret_cast<float*>(take(dim_stride * kTileRows));
        max = reinterpret_cast<float*>(take(kTileRows));
        sum = reinterpret_cast<float*>(take(kTileRows));
        rescale = reinterpret_cast<float*>(take(kTileRows));
        row = reinterpret_cast<float*>(take(kWidth * dim_stride));
        first_key = reinterpret_cast<int32_t*>(take(kTileRows));
        last_key = reinterpret_cast<int32_t*>(take(kTileRows));
        widened = reinterpret_cast<T*>(take(widened_elements(call, kTileKeys)));
        bytes = (next - static_cast<uint32_t*>(memory)) * int64_t{sizeof(uint32_t)};
    }
};

template <class T>
inline void widen_line(const T* from, float* to, int64_t dim) {
    for_each_vec(dim, [&](int64_t i, int64_t n) { store(to + i, load_some(from + i, n)); });
}

// Reads one register of units, the first n of them.
inline VecBits load_units(const uint32_t* p, int64_t n) {
    VecBits v{};
    memcpy(&v, p, n * sizeof(uint32_t));
    return v;
}

// Packs the task's queries: units of the head dimension by rows; lanes without a row are zero.
template <class T>
inline void pack_queries(const AttentionCall& call, const AttentionTask& task, const TileScratch<T>& s, int64_t rows) {
    const int64_t dim = call.cache.head_dim, head = first_head(call, task);
    for (int64_t r0 = 0; r0 < rows; r0 += kWidth) {
        const uint32_t* lines[kWidth];
        for (int64_t i = 0; i < kWidth; ++i) {
            const int64_t row = min_of(r0 + i, rows - 1), query = row / task.num_heads;
            const int64_t token = token_of(call, task, query);
            const T* line = static_cast<const T*>(call.q) + token * call.q_stride + (head + row % task.num_heads) * dim;
            if constexpr (TileScratch<T>::kPerUnit == 1) {
                widen_line(line, s.row + i * s.dim_stride, dim);
                lines[i] = reinterpret_cast<const uint32_t*>(s.row + i * s.dim_stride);
            } else {
                lines[i] = reinterpret_cast<const uint32_t*>(line);
            }
        }
        for (int64_t unit = 0; unit < s.dim_units; unit += kWidth) {
            const int64_t count = min_of(kWidth, s.dim_units - unit);
            VecBits square[kWidth];
            for (int64_t i = 0; i < kWidth; ++i) square[i] = load_units(lines[i] + unit, count);
            transpose(square);
            for (int64_t j = 0; j < count; ++j) memcpy(s.query + (unit + j) * kTileRows + r0, &square[j], sizeof(Vec));
        }
    }
}

// Brings values into the order in which the product reads them.
template <class T>
inline void pack_values(const T* const* values, int64_t count, int64_t dim, const TileScratch<T>& s) {
    if constexpr (TileScratch<T>::kPerUnit == 1) {
        for (int64_t i = 0; i < count; ++i) {
            widen_line(values[i], reinterpret_cast<float*>(s.values + i * s.dim_stride), dim);
        }
    } else {
        // Units of two keys: [d][even key, odd key]. An odd one out is paired with zeros.
        for (int64_t i = 0; i < count; i += 2) {
            uint32_t* to = s.values + i / 2 * s.dim_stride;
            for_each_vec(dim, [&](int64_t d, int64_t n) {
                VecHalf even{}, odd{};
                memcpy(&even, values[i] + d, n * sizeof(T));
                if (i + 1 < count) memcpy(&odd, values[i + 1] + d, n * sizeof(T));
                const VecBits pair = to_bits(even) | (to_bits(odd) << 16);
                memcpy(to + d, &pair, sizeof(pair));
            });
        }
    }
}

// Hides from each row the keys of this tile that it doesn't see.
inline void hide_unseen(float* scores, int64_t begin, int64_t count, const int32_t* first_key, const int32_t* last_key,
                        int64_t registers) {
    for (int64_t n = 0; n < registers; ++n) {
        VecInt first, last;
        memcpy(&first, first_key + n * kWidth, sizeof(first));
        memcpy(&last, last_key + n * kWidth, sizeof(last));
        for (int64_t i = 0; i < count; ++i) {
            float* p = scores + i * kTileRows + n * kWidth;
            const VecInt key = broadcast_int(static_cast<int32_t>(begin + i));
            const VecInt hidden = (key < first) | (key > last);
            store(p, hidden ? broadcast(kUnseen) : load(p));
        }
    }
}

// The running softmax over one tile, for one register of rows: scores become weights.
template <class T>
inline void soften(const TileScratch<T>& s, int64_t count, int64_t lane, Vec scale) {
    const float* scores = s.scores + lane;
    Vec top = load(scores);
    for (int64_t i = 1; i < count; ++i) top = max_vec(top, load(scores + i * kTileRows));
    const Vec old_max = load(s.max + lane), new_max = max_vec(top * scale, old_max);
    const Vec rescale = exp2_vec(old_max - new_max);
    Vec sum = load(s.sum + lane) * rescale;
    uint32_t* weights = s.weights + lane;
    if constexpr (TileScratch<T>::kPerUnit == 1) {
        for (int64_t i = 0; i < count; ++i) {
            const Vec p = exp2_vec(load(scores + i * kTileRows) * scale - new_max);
            sum = sum + p;
            memcpy(weights + i * kTileRows, &p, sizeof(p));
        }
    } else {
        for (int64_t i = 0; i < count; i += 2) {
            const Vec even = exp2_vec(load(scores + i * kTileRows) * scale - new_max);
            Vec odd{};
            if (i + 1 < count) odd = exp2_vec(load(scores + (i + 1) * kTileRows) * scale - new_max);
            sum = sum + (even + odd);
            const VecBits pair = to_bits(narrow(even, BFloat16{})) | (to_bits(narrow(odd, BFloat16{})) << 16);
            memcpy(weights + i / 2 * kTileRows, &pair, sizeof(pair));
        }
    }
    store(s.max + lane, new_max);
    store(s.sum + lane, sum);
    store(s.rescale + lane, rescale);
}

// Writes a register of rows: from [dim][rows] back to rows.
template <class T>
inline void finish_rows(const AttentionCall& call, const AttentionTask& task, const TileScratch<T>& s, int64_t r0,
                        int64_t rows) {
    const int64_t dim = call.cache.head_dim, head = first_head(call, task);
    const Vec factor = task.partial ? broadcast(1.0f) : broadcast(1.0f) / load(s.sum + r0);
    const int64_t count = min_of(kWidth, rows - r0);
    for (int64_t d = 0; d < dim; d += kWidth) {
        VecBits square[kWidth];
        for (int64_t i = 0; i < kWidth; ++i) {
            square[i] = bit_cast<VecBits>(load(s.acc + (d + i) * kTileRows + r0) * factor);
        }
        transpose(square);
        const int64_t n = min_of(kWidth, dim - d);
        for (int64_t i = 0; i < count; ++i) {
            const Vec line = bit_cast<Vec>(square[i]);
            const int64_t row = r0 + i;
            if (task.partial) {
                store_some(partial_row(call, task, row) + 2 + d, line, n);
            } else {
                const int64_t token = token_of(call, task, row / task.num_heads);
                const int64_t at = token * call.num_q_heads + head + row % task.num_heads;
                store_some(static_cast<T*>(call.out) + at * dim + d, line, n);
            }
        }
    }
    if (task.partial) {
        for (int64_t i = 0; i < count; ++i) {
            float* row = partial_row(call, task, r0 + i);
            row[0] = s.max[r0 + i];
            row[1] = s.sum[r0 + i];
        }
    }
}

template <class T>
void attention_tile(const AttentionCall& call, const AttentionTask& task, void* memory) {
    using Units = typename UnitsOf<T>::type;
    constexpr int kPerUnit = Units::kPerUnit;
    const TileScratch<T> s(call, memory);
    const int64_t dim = call.cache.head_dim, rows = int64_t{task.num_queries} * task.num_heads;
    const int64_t registers = (rows + kWidth - 1) / kWidth;
    pack_queries(call, task, s, rows);

    const int32_t query_len = call.query_start[task.seq + 1] - call.query_start[task.seq];
    const int32_t first_position = call.seq_lens[task.seq] - query_len + task.query_begin;
    for (int64_t r = 0; r < registers * kWidth; ++r) {
        // Lanes without a row see what the last row sees, so that they never force a mask.
        const int32_t position = first_position + static_cast<int32_t>(min_of(r, rows - 1) / task.num_heads);
        s.last_key[r] = position;
        s.first_key[r] = call.window ? static_cast<int32_t>(max_of(0, position - call.window + 1)) : 0;
        s.max[r] = kLowest;
        s.sum[r] = 0;
    }
    memset(s.acc, 0, s.dim_stride * kTileRows * sizeof(float));
    // What every row sees needs no mask.
    const int64_t seen_from = s.first_key[rows - 1], seen_to = s.last_key[0] + 1;

    const Vec scale = broadcast(call.scale * kLog2E);
    const T* keys[kTileKeys];
    const T* values[kTileKeys];
    const uint32_t* units[kTileKeys + kUnitRows];
    for (int64_t begin = task.key_begin; begin < task.key_end;) {
        // Tiles end at multiples of their size, so that a row's sums don't depend on where its chunk began.
        const int64_t count = min_of(kTileKeys - begin % kTileKeys, task.key_end - begin);
        fetch(call, task, begin, count, keys, values, s.widened);
        for (int64_t i = 0; i < count; ++i) {
            if constexpr (kPerUnit == 1 && sizeof(T) != 4) {
                widen_line(keys[i], reinterpret_cast<float*>(s.wide + i * s.dim_stride), dim);
                units[i] = s.wide + i * s.dim_stride;
            } else {
                units[i] = reinterpret_cast<const uint32_t*>(keys[i]);
            }
        }
        for (int64_t i = count; i < round_up(count, kUnitRows); ++i) units[i] = units[count - 1];
        for (int64_t i = 0; i < count; i += kUnitRows) {
            multiply_lanes<Units>(units + i, 1, s.query, s.dim_units, nullptr, s.scores + i * kTileRows, registers);
        }
        if (begin < seen_from || begin + count > seen_to) {
            hide_unseen(s.scores, begin, count, s.first_key, s.last_key, registers);
        }
        for (int64_t n = 0; n < registers; ++n) soften(s, count, n * kWidth, scale);
        pack_values(values, count, dim, s);
        for (int64_t d = 0; d < dim; d += kUnitRows) {
            for (int64_t i = 0; i < kUnitRows; ++i) units[i] = s.values + d + i;
            multiply_lanes<Units>(units, s.dim_stride, s.weights, (count + kPerUnit - 1) / kPerUnit, s.rescale,
                                  s.acc + d * kTileRows, registers);
        }
        begin += count;
    }
    for (int64_t r0 = 0; r0 < rows; r0 += kWidth) finish_rows(call, task, s, r0, rows);
}

}  // namespace lepton::LEPTON_ISA
