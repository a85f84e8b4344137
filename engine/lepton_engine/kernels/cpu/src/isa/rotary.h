// Rotary position embedding in place (half-split layout), and keys and values into their cache slots.
#pragma once

#include "vec.h"

namespace lepton::LEPTON_ISA {

constexpr int64_t kFetchedTokens = 16;

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
    const auto slot = [&](int64_t token, int64_t head) {
        const int64_t block = call.slots[token] / call.block_size, offset = call.slots[token] % call.block_size;
        return block * call.block_stride + (head * call.block_size + offset) * dim;
    };
    if (call.k_cache) {
        // Blocks lie anywhere: all of the cache's lines are fetched at once, not one after the other as they are written.
        for (int64_t token = begin; token < min_of(end, begin + kFetchedTokens); ++token) {
            for (int64_t h = 0; h < call.num_kv_heads; ++h) {
                for (size_t b = 0; b < head_bytes; b += 64) {
                    __builtin_prefetch(reinterpret_cast<const char*>(static_cast<T*>(call.k_cache) + slot(token, h)) + b, 1);
                    __builtin_prefetch(reinterpret_cast<const char*>(static_cast<T*>(call.v_cache) + slot(token, h)) + b, 1);
                }
            }
        }
    }
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
            for (int64_t h = 0; h < call.num_kv_heads; ++h) {
                const int64_t at = slot(token, h);
                memcpy(static_cast<T*>(call.k_cache) + at, k + h * dim, head_bytes);
                memcpy(static_cast<T*>(call.v_cache) + at, v + h * dim, head_bytes);
            }
        }
    }
}

}  // namespace lepton::LEPTON_ISA
