// Root-mean-square norm, with the addition to the residual stream before it.
#pragma once

#include "vec.h"

namespace lepton::LEPTON_ISA {

// What a store to T and a load from it leaves of v.
template <class T>
inline Vec rounded(Vec v) {
    if constexpr (sizeof(T) == 4) {
        return v;
    } else {
        return widen(narrow(v, T{}), T{});
    }
}

template <class T>
void rms_norm(const NormCall& call, int64_t begin, int64_t end) {
    const int64_t dim = call.dim;
    const T* weight = static_cast<const T*>(call.weight);
    for (int64_t row = begin; row < end; ++row) {
        const T* x = static_cast<const T*>(call.x) + row * call.x_stride;
        Vec squares{};
        if (call.residual) {
            const T* residual = static_cast<const T*>(call.residual) + row * call.residual_stride;
            T* total = static_cast<T*>(call.new_residual) + row * dim;
            for_each_vec(dim, [&](int64_t i, int64_t n) {
                const Vec v = rounded<T>(load_some(x + i, n) + load_some(residual + i, n));
                store_some(total + i, v, n);
                squares = v * v + squares;
            });
            x = total;
        } else {
            for_each_vec(dim, [&](int64_t i, int64_t n) {
                const Vec v = load_some(x + i, n);
                squares = v * v + squares;
            });
        }
        const Vec scale = broadcast(1.0f / __builtin_sqrtf(sum_lanes(squares) / static_cast<float>(dim) + call.eps));
        T* out = static_cast<T*>(call.out) + row * dim;
        for_each_vec(dim, [&](int64_t i, int64_t n) {
            // Rounded before the weight is applied, as the reference does.
            store_some(out + i, rounded<T>(load_some(x + i, n) * scale) * load_some(weight + i, n), n);
        });
    }
}

}  // namespace lepton::LEPTON_ISA
