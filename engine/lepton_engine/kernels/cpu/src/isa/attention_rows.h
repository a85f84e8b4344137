// Attention of a single query: each key and value is read once, where it lies, for all heads of the group.
//
// Scores are dot products along the rows of the keys, kWidth keys at a time, so that one transposing sum serves them
// all. Few heads are assumed: with many, attention_tile does less work per key.
#pragma once

#include "attention_common.h"

namespace lepton::LEPTON_ISA {

// The dot products of a query with keys of type T.
template <class T>
struct Dot {
    using Element = float;  // of the query's copy
    using Operand = Vec;
    static constexpr int kStep = kWidth;
    static Operand load_key(const T* p) { return load(p); }
    static Operand load_key_partial(const T* p, int64_t n) { return load_partial(p, n); }
    static Operand load_query(const float* p) { return load(p); }
    static Vec add(Vec sum, Operand a, Operand b) { return a * b + sum; }
    static void copy_query(const T* from, float* to, int64_t dim) {
        for_each_vec(dim, [&](int64_t i, int64_t n) { store(to + i, load_some(from + i, n)); });
    }
};

#if defined(__AVX512BF16__)
template <>
struct Dot<BFloat16> {
    using Element = BFloat16;
    using Operand = __m512bh;
    static constexpr int kStep = 32;
    static Operand load_key(const BFloat16* p) { return bit_cast<__m512bh>(_mm512_loadu_si512(p)); }
    static Operand load_key_partial(const BFloat16* p, int64_t n) {
        return bit_cast<__m512bh>(_mm512_maskz_loadu_epi16((1u << n) - 1, p));
    }
    static Operand load_query(const BFloat16* p) { return load_key(p); }
    static Vec add(Vec sum, Operand a, Operand b) { return _mm512_dpbf16_ps(sum, a, b); }
    static void copy_query(const BFloat16* from, BFloat16* to, int64_t dim) {
        memcpy(to, from, dim * sizeof(BFloat16));
        memset(static_cast<void*>(to + dim), 0, (round_up(dim, kStep) - dim) * sizeof(BFloat16));
    }
};
#endif

// Scores of kWidth keys.
template <class T>
inline Vec score_keys(const T* const* keys, const typename Dot<T>::Element* query, int64_t dim) {
    Vec sums[kWidth] = {};
    int64_t d = 0;
    for (; d + Dot<T>::kStep <= dim; d += Dot<T>::kStep) {
        const auto q = Dot<T>::load_query(query + d);
#pragma GCC unroll 16
        for (int i = 0; i < kWidth; ++i) sums[i] = Dot<T>::add(sums[i], Dot<T>::load_key(keys[i] + d), q);
    }
    if (d < dim) {
        const auto q = Dot<T>::load_query(query + d);
#pragma GCC unroll 16
        for (int i = 0; i < kWidth; ++i) {
            sums[i] = Dot<T>::add(sums[i], Dot<T>::load_key_partial(keys[i] + d, dim - d), q);
        }
    }
    return sum_each(sums);
}

// acc[h][d] = acc[h][d] * rescale[h] + sum over keys of weights[h][key] * values[key][d], for H heads and N registers.
// Meanwhile the same part of the lines `fetch` is brought in, unless that is null.
template <class T, int H, int N>
inline void weigh_values(const T* const* values, const T* const* fetch, int64_t count, int64_t d, int64_t partial,
                         const float* weights, int64_t weights_stride, const float* rescale, float* acc,
                         int64_t acc_stride) {
    Vec sums[H][N];
    for (int h = 0; h < H; ++h) {
        for (int n = 0; n < N; ++n) {
            sums[h][n] = load(acc + h * acc_stride + d + n * kWidth) * broadcast(rescale[h]);
        }
    }
    for (int64_t i = 0; i < count; ++i) {
        if (fetch) {
            for (int b = 0; b < N * kWidth * int{sizeof(T)}; b += 64) {
                __builtin_prefetch(reinterpret_cast<const char*>(fetch[i] + d) + b, 0, 2);
            }
        }
        Vec v[N];
        for (int n = 0; n < N; ++n) {
            const T* p = values[i] + d + n * kWidth;
            v[n] = partial ? load_partial(p, partial) : load(p);
        }
        for (int h = 0; h < H; ++h) {
            const Vec w = broadcast(weights[h * weights_stride + i]);
            for (int n = 0; n < N; ++n) sums[h][n] = w * v[n] + sums[h][n];
        }
    }
    for (int h = 0; h < H; ++h) {
        for (int n = 0; n < N; ++n) store(acc + h * acc_stride + d + n * kWidth, sums[h][n]);
    }
}

template <class T, int H>
inline void weigh_values_of_heads(const T* const* values, const T* const* fetch, int64_t count, int64_t dim, const float* weights,
                                  int64_t weights_stride, const float* rescale, float* acc, int64_t acc_stride) {
    constexpr int kMost = kWidth == 16 ? 4 : 2;  // H * kMost sums stay in registers
    int64_t d = 0;
    for (; d + kMost * kWidth <= dim; d += kMost * kWidth) {
        weigh_values<T, H, kMost>(values, fetch, count, d, 0, weights, weights_stride, rescale, acc, acc_stride);
    }
    for (; d < dim; d += kWidth) {
        const int64_t partial = d + kWidth <= dim ? 0 : dim - d;
        weigh_values<T, H, 1>(values, fetch, count, d, partial, weights, weights_stride, rescale, acc, acc_stride);
    }
}

template <class T>
inline void prefetch(const T* const* lines, int64_t begin, int64_t end, int64_t dim) {
    for (int64_t i = begin; i < end; ++i) {
        for (int64_t d = 0; d < dim; d += 64 / int64_t{sizeof(T)}) __builtin_prefetch(lines[i] + d, 0, 2);
    }
}

constexpr int64_t kRowsKeys = 64;  // keys between two updates of the running softmax

template <class T>
struct RowsScratch {
    typename Dot<T>::Element* query;
    float *weights, *acc, *max, *sum, *rescale;
    T* widened;
    int64_t query_stride, acc_stride, bytes;

    RowsScratch(const AttentionCall& call, int64_t heads, void* memory) {
        query_stride = round_up(call.cache.head_dim, 32);
        acc_stride = round_up(call.cache.head_dim, kWidth);
        float* next = static_cast<float*>(memory);
        const auto take = [&](int64_t count) {
            float* taken = next;
            next += round_up(count, 16);
            return taken;
        };
        query = reinterpret_cast<typename Dot<T>::Element*>(take(heads * query_stride));
        weights = take(heads * kRowsKeys);
        acc = take(heads * acc_stride);
        max = take(heads);
        sum = take(heads);
        rescale = take(heads);
        widened = reinterpret_cast<T*>(take(widened_elements(call, kRowsKeys)));
        bytes = (next - static_cast<float*>(memory)) * int64_t{sizeof(float)};
    }
};

template <class T>
void attention_rows(const AttentionCall& call, const AttentionTask& task, const AttentionTask* next, void* memory) {
    const int64_t dim = call.cache.head_dim, heads = task.num_heads;
    const RowsScratch<T> s(call, heads, memory);
    const int64_t token = token_of(call, task, 0), head = first_head(call, task);
    const T* q = static_cast<const T*>(call.q) + token * call.q_stride + head * dim;
    for (int64_t h = 0; h < heads; ++h) {
        Dot<T>::copy_query(q + h * dim, s.query + h * s.query_stride, dim);
        s.max[h] = kLowest;
        s.sum[h] = 0;
    }
    memset(s.acc, 0, heads * s.acc_stride * sizeof(float));

    const Vec scale = broadcast(call.scale * kLog2E);
    const T* lines[2][2][kRowsKeys + kWidth];  // of keys and of values; of this tile and of the next
    const int64_t end = task.key_end;
    const bool in_place = call.cache.format == kPlain;  // lines are those of the cache, which can be fetched ahead
    int64_t count = min_of(kRowsKeys, end - task.key_begin);
    fetch(call, task, task.key_begin, count, lines[0][0], lines[1][0], s.widened);
    for (int64_t begin = task.key_begin, turn = 0; begin < end; begin += kRowsKeys, turn ^= 1) {
        const T** keys = lines[0][turn];
        const T** values = lines[1][turn];
        const T** next_keys = lines[0][turn ^ 1];
        const int64_t next_count = max_of(0, min_of(kRowsKeys, end - begin - count));
        // What comes in while the values are weighed: the next keys, or the first ones of the next task.
        int64_t ahead_count = in_place ? next_count : 0;
        if (ahead_count) {
            locate(call, task, begin + count, next_count, next_keys, lines[1][turn ^ 1]);
        } else if (in_place && next) {
            ahead_count = min_of(count, next->key_end - next->key_begin);
            locate(call, *next, next->key_begin, ahead_count, next_keys, lines[1][turn ^ 1]);
        }
        const int64_t padded = round_up(count, kWidth);
        for (int64_t i = count; i < padded; ++i) keys[i] = keys[count - 1];
        for (int64_t i = 0; i < padded; i += kWidth) {
            for (int64_t h = 0; h < heads; ++h) {
                // The values are needed next, and blocks lie anywhere: each head fetches some of them.
                if (in_place) prefetch(values, i + h * kWidth / heads, min_of(count, i + (h + 1) * kWidth / heads), dim);
                store(s.weights + h * kRowsKeys + i, scale * score_keys(keys + i, s.query + h * s.query_stride, dim));
            }
        }
        for (int64_t h = 0; h < heads; ++h) {
            float* w = s.weights + h * kRowsKeys;
            for (int64_t i = count; i < padded; ++i) w[i] = kUnseen;
            Vec top = load(w);
            for (int64_t i = kWidth; i < padded; i += kWidth) top = max_vec(top, load(w + i));
            const float old_max = s.max[h], tile_max = max_lanes(top);
            const float new_max = tile_max > old_max ? tile_max : old_max;
            Vec sum{};
            for (int64_t i = 0; i < padded; i += kWidth) {
                const Vec p = exp2_vec(load(w + i) - broadcast(new_max));
                store(w + i, p);
                sum = sum + p;
            }
            s.rescale[h] = exp2_vec(broadcast(old_max - new_max))[0];
            s.sum[h] = s.sum[h] * s.rescale[h] + sum_lanes(sum);
            s.max[h] = new_max;
        }
        for (int64_t i = ahead_count; i < count; ++i) next_keys[i] = keys[0];  // nothing to fetch
        for (int64_t h = 0; h < heads;) {
            const T* const* ahead = h == 0 && ahead_count ? next_keys : nullptr;
            const float* w = s.weights + h * kRowsKeys;
            float* acc = s.acc + h * s.acc_stride;
            const auto weigh = [&](auto weigh_heads) {
                weigh_heads(values, ahead, count, dim, w, kRowsKeys, s.rescale + h, acc, s.acc_stride);
            };
            const int64_t left = heads - h;
            if (left >= 4) {
                weigh(&weigh_values_of_heads<T, 4>);
            } else if (left == 3) {
                weigh(&weigh_values_of_heads<T, 3>);
            } else if (left == 2) {
                weigh(&weigh_values_of_heads<T, 2>);
            } else {
                weigh(&weigh_values_of_heads<T, 1>);
            }
            h += min_of(left, 4);
        }
        if (next_count && !in_place) {
            fetch(call, task, begin + kRowsKeys, next_count, next_keys, lines[1][turn ^ 1], s.widened);
        }
        count = next_count;
    }

    T* out = static_cast<T*>(call.out) + (token * call.num_q_heads + head) * dim;
    for (int64_t h = 0; h < heads; ++h) {
        const float* acc = s.acc + h * s.acc_stride;
        if (task.partial) {
            float* row = partial_row(call, task, h);
            row[0] = s.max[h];
            row[1] = s.sum[h];
            memcpy(row + 2, acc, dim * sizeof(float));
        } else {
            const Vec inverse = broadcast(1.0f / s.sum[h]);
            for_each_vec(dim, [&](int64_t i, int64_t n) { store_some(out + h * dim + i, load(acc + i) * inverse, n); });
        }
    }
}

}  // namespace lepton::LEPTON_ISA
