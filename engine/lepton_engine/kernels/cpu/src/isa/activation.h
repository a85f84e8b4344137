// The gated activation of Llama's MLP.
#pragma once

#include "attention_common.h"
#include "norm.h"

namespace lepton::LEPTON_ISA {

// x / (1 + e^-x). Far below zero e^-x is infinite and the quotient zero, as it should be.
inline Vec silu(Vec x) { return x / (broadcast(1.0f) + exp2_vec(x * broadcast(-kLog2E))); }

template <class T>
void silu_mul(const SiluMulCall& call, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
        const T* gate = static_cast<const T*>(call.gate_up) + row * call.stride;
        const T* up = gate + call.dim;
        T* out = static_cast<T*>(call.out) + row * call.dim;
        for_each_vec(call.dim, [&](int64_t i, int64_t n) {
            store_some(out + i, rounded<T>(silu(load_some(gate + i, n))) * load_some(up + i, n), n);
        });
    }
}

}  // namespace lepton::LEPTON_ISA
