// What both attention kernels share: addresses of keys and values in their blocks, and the end of a task.
#pragma once

#include "dequantize.h"
#include "vec.h"

namespace lepton::LEPTON_ISA {

constexpr float kUnseen = -__builtin_inff();  // the score of a key that is not seen
constexpr float kLowest = -1e30f;  // where the running maximum starts: finite, so that kUnseen - maximum is no NaN
constexpr float kLog2E = 1.44269504088896f;

// The first token of the task's queries, as a row of q and out.
inline int64_t token_of(const AttentionCall& call, const AttentionTask& task, int64_t query) {
    return call.query_start[task.seq] + task.query_begin + query;
}

inline int64_t first_head(const AttentionCall& call, const AttentionTask& task) {
    return int64_t{task.kv_head} * (call.num_q_heads / call.cache.num_heads) + task.head_begin;
}

// Calls body(i, block, offset) for the keys [begin, begin + count): the i-th is in that row of that block.
template <class Body>
inline void for_each_slot(const AttentionCall& call, const AttentionTask& task, int64_t begin, int64_t count,
                          Body&& body) {
    const int32_t* table = call.block_table + task.seq * call.table_stride;
    const int64_t size = call.cache.block_size;
    int64_t block = begin / size, offset = begin - block * size;
    for (int64_t i = 0; i < count; ++block, offset = 0) {
        const int64_t run = min_of(size - offset, count - i);
        for (int64_t j = 0; j < run; ++j, ++i) body(i, int64_t{table[block]}, offset + j);
    }
}

template <class T>
inline void locate(const AttentionCall& call, const AttentionTask& task, int64_t begin, int64_t count, const T** keys,
                   const T** values) {
    const PagedCache& cache = call.cache;
    const int64_t head = int64_t{task.kv_head} * cache.block_size;
    for_each_slot(call, task, begin, count, [&](int64_t i, int64_t block, int64_t offset) {
        const int64_t at = block * cache.block_stride + (head + offset) * cache.head_dim;
        keys[i] = static_cast<const T*>(cache.keys) + at;
        values[i] = static_cast<const T*>(cache.values) + at;
    });
}

template <class T>
inline void widen_stored(const PagedCache& cache, const uint8_t* from, float scale, T* to) {
    const Vec factor = broadcast(scale);
    for_each_vec(cache.head_dim, [&](int64_t i, int64_t n) {
        uint8_t bytes[kWidth] = {};
        memcpy(bytes, from + i, n);
        VecBytes stored;
        memcpy(&stored, bytes, sizeof(stored));
        const VecBits bits = to_bits(stored);
        const Vec v = cache.format == kFloat8 ? float8(bits) : to_float(bit_cast<VecBits>(bit_cast<VecInt>(bits << 24) >> 24));
        store_some(to + i, v * factor, n);
    });
}

// Elements of T that hold the widened keys and values of a tile of that many.
inline int64_t widened_elements(const AttentionCall& call, int64_t keys) {
    return call.cache.format == kPlain ? 0 : 2 * keys * round_up(call.cache.head_dim, 32);
}

// Finds the keys [begin, begin + count) and their values as T, where they lie or widened into memory.
template <class T>
inline void fetch(const AttentionCall& call, const AttentionTask& task, int64_t begin, int64_t count, const T** keys,
                  const T** values, T* memory) {
    const PagedCache& cache = call.cache;
    if (cache.format == kPlain) {
        locate<T>(call, task, begin, count, keys, values);
        return;
    }
    const int64_t stride = round_up(cache.head_dim, 32), head = int64_t{task.kv_head} * cache.block_size;
    for_each_slot(call, task, begin, count, [&](int64_t i, int64_t block, int64_t offset) {
        const int64_t at = block * cache.block_stride + (head + offset) * cache.head_dim;
        const int64_t scale = block * cache.num_heads * cache.block_size + head + offset;
        T* key = memory + 2 * i * stride;
        T* value = key + stride;
        widen_stored(cache, static_cast<const uint8_t*>(cache.keys) + at, cache.key_scales[scale], key);
        widen_stored(cache, static_cast<const uint8_t*>(cache.values) + at, cache.value_scales[scale], value);
        keys[i] = key;
        values[i] = value;
    });
}

// Writes the heads of a single query, rows of head_dim floats.
template <class T>
void attention_write(const AttentionCall& call, const AttentionTask& task, const float* rows) {
    const int64_t dim = call.cache.head_dim;
    T* out = static_cast<T*>(call.out) + (token_of(call, task, 0) * call.num_q_heads + first_head(call, task)) * dim;
    for_each_vec(task.num_heads * dim, [&](int64_t i, int64_t n) { store_some(out + i, load_some(rows + i, n), n); });
}

inline float* partial_row(const AttentionCall& call, const AttentionTask& task, int64_t row) {
    return task.partial + row * (call.cache.head_dim + int64_t{sizeof(PartialRow) / sizeof(float)});
}

}  // namespace lepton::LEPTON_ISA
