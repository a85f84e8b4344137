// Rotary position embedding in place (half-split layout), and keys and values into their cache slots.
#pragma once

#include "vec.h"

namespace lepton::LEPTON_ISA {

template <class T>
inline void rotate_head(T* x, const float* cos, const float* sin, int64_t half) {
    for_each_vec(half, [&](int64_t i, int64_t n) {
        const Vec c = load_some(cos + i, n), s = load_some(sin + i, n);
        const Vec first = load_some(x + i, n), second = load_some(x + half + i, n);
        store_some(x + i, first * c - second * s, n);
        store_some(x + half + i, second * c + first * s, n);
    });
}

template <class T>
void rotary(const RotaryCall& call, int64_t begin, int64_t end) {
    const int64_t dim = call.head_dim, half = call.rotary_dim / 2;
    const size_t head_bytes = dim * sizeof(T);
    for (int64_t token = begin; token < end; ++token) {
        T* k = static_cast<T*>(call.k) + token * call.k_stride;
        if (call.cos_sin) {
            const float* cos = call.cos_sin + call.positions[token] * call.rotary_dim;
            T* q = static_cast<T*>(call.q) + token * call.q_stride;
            for (int64_t h = 0; h < call.num_q_heads; ++h) rotate_head(q + h * dim, cos, cos + half, half);
            for (int64_t h = 0; h < call.num_kv_heads; ++h) rotate_head(k + h * dim, cos, cos + half, half);
        }
        if (call.k_cache) {
            const T* v = static_cast<const T*>(call.v) + token * call.v_stride;
            const int64_t block = call.slots[token] / call.block_size, offset = call.slots[token] % call.block_size;
            for (int64_t h = 0; h < call.num_kv_heads; ++h) {
                const int64_t at = block * call.block_stride + (h * call.block_size + offset) * dim;
                memcpy(static_cast<T*>(call.k_cache) + at, k + h * dim, head_bytes);
                memcpy(static_cast<T*>(call.v_cache) + at, v + h * dim, head_bytes);
            }
        }
    }
}

}  // namespace lepton::LEPTON_ISA
