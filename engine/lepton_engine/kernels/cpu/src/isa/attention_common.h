// What both attention kernels share: addresses of keys and values in their blocks, and the end of a task.
#pragma once

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
    return int64_t{task.kv_head} * (call.num_q_heads / call.num_kv_heads) + task.head_begin;
}

// Fills in where the keys [begin, begin + count) and their values lie.
template <class T>
inline void locate(const AttentionCall& call, const AttentionTask& task, int64_t begin, int64_t count, const T** keys,
                   const T** values) {
    const int32_t* table = call.block_table + task.seq * call.table_stride;
    const int64_t dim = call.head_dim, size = call.block_size;
    const T* k_cache = static_cast<const T*>(call.k_cache) + task.kv_head * size * dim;
    const T* v_cache = static_cast<const T*>(call.v_cache) + task.kv_head * size * dim;
    int64_t block = begin / size, offset = begin - block * size;
    for (int64_t i = 0; i < count;) {
        const int64_t base = table[block] * call.block_stride;
        const int64_t run = min_of(size - offset, count - i);
        for (int64_t j = 0; j < run; ++j, ++i) {
            keys[i] = k_cache + base + (offset + j) * dim;
            values[i] = v_cache + base + (offset + j) * dim;
        }
        ++block;
        offset = 0;
    }
}

// Writes the heads of a single query, rows of head_dim floats.
template <class T>
void attention_write(const AttentionCall& call, const AttentionTask& task, const float* rows) {
    const int64_t dim = call.head_dim;
    T* out = static_cast<T*>(call.out) + (token_of(call, task, 0) * call.num_q_heads + first_head(call, task)) * dim;
    for_each_vec(task.num_heads * dim, [&](int64_t i, int64_t n) { store_some(out + i, load_some(rows + i, n), n); });
}

inline float* partial_row(const AttentionCall& call, const AttentionTask& task, int64_t row) {
    return task.partial + row * (call.head_dim + int64_t{sizeof(PartialRow) / sizeof(float)});
}

}  // namespace lepton::LEPTON_ISA
