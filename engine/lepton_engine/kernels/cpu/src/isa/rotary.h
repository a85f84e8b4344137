// Rotary position embedding in place (half-split layout), and keys and values into their cache slots.
#pragma once

#include "integer.h"
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

// 8 bits as float8() reads them: to the nearest, ties to even; no value is beyond the largest.
inline VecBits narrow_float8(Vec v) {
    const VecBits bits = bit_cast<VecBits>(v), sign = bits & 0x80000000;
    const Vec magnitude = bit_cast<Vec>(bits ^ sign);
    const VecBits exponent = bit_cast<VecBits>(magnitude) & 0x7f800000, least = VecBits{} + 0x3c800000;  // 2^-6
    // Adding a power of two whose last bit is the result's last bit rounds to it.
    const Vec magic = bit_cast<Vec>((exponent > least ? exponent : least) + (20u << 23));
    const Vec rounded = (magnitude + magic) - magic;
    const VecBits normal = (bit_cast<VecBits>(rounded) - (120u << 23)) >> 20;
    const VecBits subnormal = bit_cast<VecBits>(__builtin_convertvector(rounded * broadcast(0x1p9f), VecInt));
    return (bit_cast<VecBits>(rounded) < least ? subnormal : normal) | (sign >> 24);
}

// Stores one head of one token in a quantised cache, by its largest magnitude; returns the scale.
template <class T>
inline float store_quantized(const PagedCache& cache, const T* from, uint8_t* to) {
    const float most = cache.format == kInt8 ? 127.0f : 448.0f;
    float line[kMostQuantizedDim];
    for_each_vec(cache.head_dim, [&](int64_t i, int64_t n) { store_some(line + i, load_some(from + i, n), n); });
    const float scale = scale_of(line, cache.head_dim, most);
    const Vec divisor = broadcast(scale == scale && scale > 0 ? scale : 1.0f), magic = broadcast(12582912.0f);
    const bool lost = scale != scale;  // infinity or NaN: the scale is NaN, whatever is stored
    for_each_vec(cache.head_dim, [&](int64_t i, int64_t n) {
        const Vec v = lost ? Vec{} : load_some(line + i, n) / divisor;
        const VecBits stored = cache.format == kInt8
                                   ? bit_cast<VecBits>(__builtin_convertvector(v + magic - magic, VecInt)) & 0xff
                                   : narrow_float8(v);
        const VecBytes bytes = to_bytes(stored);
        memcpy(to + i, &bytes, n);
    });
    return scale;
}

// Brings the lines that are written next into the caches: blocks lie anywhere, so all at once, not one after the other.
inline void fetch_for_writing(void* line, int64_t bytes) {
    for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(static_cast<char*>(line) + b, 1);
}

template <class T>
void rotary(const RotaryCall& call, int64_t begin, int64_t end) {
    const PagedCache& cache = call.cache;
    const int64_t dim = cache.head_dim, half = call.rotary_dim / 2;
    const int64_t head_bytes = dim * (cache.format == kPlain ? sizeof(T) : 1);
    const auto line_of = [&](void* base, int64_t token, int64_t head) {
        const int64_t block = call.slots[token] / cache.block_size, offset = call.slots[token] % cache.block_size;
        const int64_t at = block * cache.block_stride + (head * cache.block_size + offset) * dim;
        return static_cast<char*>(base) + at * (cache.format == kPlain ? int64_t{sizeof(T)} : 1);
    };
    if (cache.keys) {
        for (int64_t token = begin; token < min_of(end, begin + kFetchedTokens); ++token) {
            for (int64_t h = 0; h < cache.num_heads; ++h) {
                fetch_for_writing(line_of(cache.keys, token, h), head_bytes);
                fetch_for_writing(line_of(cache.values, token, h), head_bytes);
            }
        }
    }
    for (int64_t token = begin; token < end; ++token) {
        T* k = static_cast<T*>(call.k) + token * call.k_stride;
        if (call.cos_sin) {
            const float* cos = call.cos_sin + call.positions[token] * call.rotary_dim;
            T* q = static_cast<T*>(call.q) + token * call.q_stride;
            for (int64_t h = 0; h < call.num_q_heads; ++h) rotate_head(q + h * dim, cos, cos + half, half);
            for (int64_t h = 0; h < cache.num_heads; ++h) rotate_head(k + h * dim, cos, cos + half, half);
        }
        if (!cache.keys) continue;
        const T* v = static_cast<const T*>(call.v) + token * call.v_stride;
        for (int64_t h = 0; h < cache.num_heads; ++h) {
            char* key = line_of(cache.keys, token, h);
            char* value = line_of(cache.values, token, h);
            if (cache.format == kPlain) {
                memcpy(key, k + h * dim, head_bytes);
                memcpy(value, v + h * dim, head_bytes);
                continue;
            }
            const int64_t block = call.slots[token] / cache.block_size, offset = call.slots[token] % cache.block_size;
            const int64_t scale = (block * cache.num_heads + h) * cache.block_size + offset;
            cache.key_scales[scale] = store_quantized(cache, k + h * dim, reinterpret_cast<uint8_t*>(key));
            cache.value_scales[scale] = store_quantized(cache, v + h * dim, reinterpret_cast<uint8_t*>(value));
        }
    }
}

}  // namespace lepton::LEPTON_ISA
