// The C ABI. Shapes and layouts are those of args.h; the Python side (native.py) checks tensors before it calls.
// A status of 0 is success, 1 an argument that no kernel takes, 2 out of memory.
#include <new>

#include "args.h"
#include "attention.h"
#include "isa.h"
#include "linear.h"
#include "parallel.h"

using namespace lepton;

#define LEPTON_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// Elements that are worth a thread of their own in kernels that do little with each.
constexpr int64_t kGrain = 16384;

enum Status : int { kOk = 0, kBadArgument = 1, kOutOfMemory = 2 };

int64_t rows_per_thread(int64_t row_elements) { return row_elements >= kGrain ? 1 : kGrain / (row_elements + 1) + 1; }

}  // namespace

LEPTON_EXPORT int lepton_abi_version() { return 1; }

LEPTON_EXPORT void lepton_set_openmp(void* parallel, void* thread, void* team) {
    set_openmp({reinterpret_cast<void (*)(void (*)(void*), void*, unsigned, unsigned)>(parallel),
                reinterpret_cast<int (*)()>(thread), reinterpret_cast<int (*)()>(team)});
}

LEPTON_EXPORT const char* lepton_isa() { return kernels().name; }

LEPTON_EXPORT int lepton_select_isa(const char* name) { return select_kernels(name) ? kOk : kBadArgument; }

LEPTON_EXPORT int lepton_paged_attention(int dtype, int threads, const void* q, const void* k_cache, const void* v_cache,
                                         void* out, const int32_t* block_table, const int32_t* query_start,
                                         const int32_t* seq_lens, int64_t q_stride, int64_t block_stride,
                                         int64_t table_stride, int num_seqs, int num_q_heads, int num_kv_heads,
                                         int head_dim, int block_size, int window, float scale) {
    if (dtype < 0 || dtype >= kNumDTypes) return kBadArgument;
    const AttentionCall call{q,          k_cache,      v_cache,      out,          block_table,
                             query_start, seq_lens,    q_stride,     block_stride, table_stride,
                             num_seqs,   num_q_heads,  num_kv_heads, head_dim,     block_size,
                             window,     scale};
    try {
        paged_attention(call, static_cast<DType>(dtype), threads);
    } catch (const std::bad_alloc&) {
        return kOutOfMemory;
    }
    return kOk;
}

LEPTON_EXPORT int lepton_rms_norm(int dtype, int threads, const void* x, const void* residual, const void* weight,
                                  void* out, void* new_residual, int64_t x_stride, int64_t residual_stride, int64_t rows,
                                  int64_t dim, float eps) {
    if (dtype < 0 || dtype >= kNumDTypes) return kBadArgument;
    const NormCall call{x, residual, weight, out, new_residual, x_stride, residual_stride, dim, eps};
    const auto kernel = kernels().rms_norm[dtype];
    parallel_ranges(threads, rows, rows_per_thread(dim), [&](int64_t begin, int64_t end) { kernel(call, begin, end); });
    return kOk;
}

LEPTON_EXPORT int lepton_rotary_store(int dtype, int threads, void* q, void* k, const void* v, const int64_t* positions,
                                      const float* cos_sin, void* k_cache, void* v_cache, const int64_t* slots,
                                      int64_t q_stride, int64_t k_stride, int64_t v_stride, int64_t block_stride,
                                      int64_t tokens, int num_q_heads, int num_kv_heads, int head_dim, int rotary_dim,
                                      int block_size) {
    if (dtype < 0 || dtype >= kNumDTypes) return kBadArgument;
    const RotaryCall call{q,        k,        v,        positions,    cos_sin,     k_cache,      v_cache,  slots,
                          q_stride, k_stride, v_stride, block_stride, num_q_heads, num_kv_heads, head_dim, rotary_dim,
                          block_size};
    const auto kernel = kernels().rotary[dtype];
    const int64_t grain = rows_per_thread(int64_t{num_q_heads + 2 * num_kv_heads} * head_dim);
    parallel_ranges(threads, tokens, grain, [&](int64_t begin, int64_t end) { kernel(call, begin, end); });
    return kOk;
}

LEPTON_EXPORT int lepton_silu_mul(int dtype, int threads, const void* gate_up, void* out, int64_t stride, int64_t rows,
                                  int64_t dim) {
    if (dtype < 0 || dtype >= kNumDTypes) return kBadArgument;
    const SiluMulCall call{gate_up, out, stride, dim};
    const auto kernel = kernels().silu_mul[dtype];
    parallel_ranges(threads, rows, rows_per_thread(dim), [&](int64_t begin, int64_t end) { kernel(call, begin, end); });
    return kOk;
}

LEPTON_EXPORT int64_t lepton_linear_worthwhile_rows(int dtype) {
    return dtype < 0 || dtype >= kNumDTypes ? 0 : linear_worthwhile_rows(static_cast<DType>(dtype));
}

LEPTON_EXPORT int lepton_linear(int dtype, int threads, const void* x, const void* weight, const void* bias, void* out,
                                int64_t x_stride, int64_t weight_stride, int64_t m, int64_t n, int64_t k) {
    if (dtype < 0 || dtype >= kNumDTypes) return kBadArgument;
    linear({x, weight, bias, out, x_stride, weight_stride, m, n, k}, static_cast<DType>(dtype), threads);
    return kOk;
}
