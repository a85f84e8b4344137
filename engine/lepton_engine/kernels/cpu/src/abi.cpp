// The C ABI. Shapes and layouts are those of args.h; the Python side (native.py) checks tensors before it calls.
// A status of 0 is success, 1 an argument that no kernel takes, 2 out of memory.
#include <new>

#include "args.h"
#include "attention.h"
#include "isa.h"
#include "linear.h"
#include "parallel.h"
#include "plan.h"

using namespace lepton;

#define LEPTON_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// Elements that are worth a thread of their own in kernels that do little with each.
constexpr int64_t kGrain = 16384;

enum Status : int { kOk = 0, kBadArgument = 1, kOutOfMemory = 2 };

int64_t rows_per_thread(int64_t row_elements) { return row_elements >= kGrain ? 1 : kGrain / (row_elements + 1) + 1; }

bool is_valid(const PagedCache& cache) {
    if (cache.format == kPlain) return true;
    const bool has_scales = cache.key_scales && cache.value_scales;
    return (cache.format == kInt8 || cache.format == kFloat8) && has_scales && cache.head_dim <= kMostQuantizedDim;
}

bool is_valid(const LinearWeight& weight) {
    if (weight.format < 0 || weight.format >= kNumFormats || weight.n <= 0 || weight.k <= 0) return false;
    if (weight.group <= 0 || weight.k % weight.group || (weight.gated && weight.n % 2)) return false;
    return weight.group == weight.k || (weight.format == kInt4 && weight.group % 8 == 0);
}

}  // namespace

LEPTON_EXPORT int lepton_abi_version() { return 7; }

LEPTON_EXPORT void lepton_set_openmp(void* parallel, void* thread, void* team) {
    set_openmp({reinterpret_cast<void (*)(void (*)(void*), void*, unsigned, unsigned)>(parallel),
                reinterpret_cast<int (*)()>(thread), reinterpret_cast<int (*)()>(team)});
}

LEPTON_EXPORT const char* lepton_isa() { return kernels().name; }

LEPTON_EXPORT int lepton_select_isa(const char* name) { return select_kernels(name) ? kOk : kBadArgument; }

LEPTON_EXPORT int lepton_paged_attention(int dtype, int threads, const PagedCache* cache, const void* q, void* out,
                                         const int32_t* block_table, const int32_t* query_start,
                                         const int32_t* seq_lens, int64_t q_stride, int64_t table_stride, int num_seqs,
                                         int num_q_heads, int window, int invariant, float scale) {
    if (dtype < 0 || dtype >= kNumDTypes || !is_valid(*cache)) return kBadArgument;
    const AttentionCall call{q,        *cache,       out,      block_table, query_start, seq_lens, q_stride, table_stride,
                             num_seqs, num_q_heads, window, invariant,   scale};
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

LEPTON_EXPORT int lepton_rotary_store(int dtype, int threads, const PagedCache* cache, void* q, void* k, const void* v,
                                      const int64_t* positions, const float* cos_sin, const int64_t* slots,
                                      int64_t q_stride, int64_t k_stride, int64_t v_stride, int64_t tokens,
                                      int num_q_heads, int rotary_dim) {
    if (dtype < 0 || dtype >= kNumDTypes || !is_valid(*cache)) return kBadArgument;
    const RotaryCall call{q,     k,        v,        positions, cos_sin,     *cache,
                          slots, q_stride, k_stride, v_stride,  num_q_heads, rotary_dim};
    const auto kernel = kernels().rotary[dtype];
    const int64_t grain = rows_per_thread(int64_t{num_q_heads + 2 * cache->num_heads} * cache->head_dim);
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

LEPTON_EXPORT int lepton_argmax(int threads, const float* x, int64_t stride, int64_t rows, int64_t columns, float* best,
                                int64_t* index) {
    if (columns <= 0) return kBadArgument;
    const auto kernel = kernels().argmax;
    // A thread does a row of 100,000 in the time in which another one starts.
    parallel_ranges(threads, rows, rows_per_thread(columns / 8), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) kernel(x + row * stride, columns, best + row, index + row);
    });
    return kOk;
}

LEPTON_EXPORT int lepton_linear_worthwhile(int dtype) {
    return dtype >= 0 && dtype < kNumDTypes && linear_worthwhile(static_cast<DType>(dtype));
}

LEPTON_EXPORT int64_t lepton_panel_bytes(int dtype, const LinearWeight* weight) {
    return is_valid(*weight) ? panel_bytes(static_cast<DType>(dtype), *weight) : -1;
}

LEPTON_EXPORT int64_t lepton_num_scales(const LinearWeight* weight) {
    return weight->num_panels() * weight->groups() * kPanel;
}

LEPTON_EXPORT int lepton_pack_panels(int dtype, int threads, const LinearWeight* weight, const void* rows, void* panels,
                                     int64_t stride) {
    if (dtype < 0 || dtype >= kNumDTypes || !is_valid(*weight)) return kBadArgument;
    pack_panels(static_cast<DType>(dtype), *weight, rows, stride, panels, threads);
    return kOk;
}

LEPTON_EXPORT void lepton_pack_scales(const LinearWeight* weight, const float* numbers, float* out) {
    pack_scales(*weight, numbers, out);
}

LEPTON_EXPORT int lepton_gather_rows(int dtype, const LinearWeight* weight, const int64_t* ids, void* out,
                                     int64_t count) {
    if (dtype < 0 || dtype >= kNumDTypes || weight->format != kPlain || weight->gated) return kBadArgument;
    return gather_rows(static_cast<DType>(dtype), *weight, ids, count, out) ? kOk : kBadArgument;
}

LEPTON_EXPORT int lepton_linear(int dtype, int threads, const LinearWeight* weight, const void* x, const void* bias,
                                const void* residual, void* out, int64_t x_stride, int64_t m, int out_float) {
    if (dtype < 0 || dtype >= kNumDTypes || !is_valid(*weight)) return kBadArgument;
    const LinearCall call{*weight, x, bias, residual, out, x_stride, m, out_float};
    try {
        linear(call, static_cast<DType>(dtype), threads);
    } catch (const std::bad_alloc&) {
        return kOutOfMemory;
    }
    return kOk;
}

// ---- plans ------------------------------------------------------------------------------------------------------

LEPTON_EXPORT void* lepton_plan_new(int dtype, const int64_t* widths, int num_buffers) {
    if (dtype < 0 || dtype >= kNumDTypes) return nullptr;
    return new (std::nothrow) Plan(static_cast<DType>(dtype), {widths, widths + num_buffers});
}

LEPTON_EXPORT void lepton_plan_free(void* plan) { delete static_cast<Plan*>(plan); }

LEPTON_EXPORT void lepton_plan_embed(void* plan, int to, const LinearWeight* weight, int panels) {
    static_cast<Plan*>(plan)->embed(to, *weight, panels != 0);
}

LEPTON_EXPORT void lepton_plan_rms_norm(void* plan, int from, int to, const void* weight, int64_t dim, float eps) {
    static_cast<Plan*>(plan)->rms_norm(from, to, weight, dim, eps);
}

LEPTON_EXPORT void lepton_plan_head_norm(void* plan, int buffer, const void* weight, int first, int count, int dim,
                                         float eps) {
    static_cast<Plan*>(plan)->head_norm(buffer, weight, first, count, dim, eps);
}

LEPTON_EXPORT void lepton_plan_linear(void* plan, int from, int to, int residual, const LinearWeight* weight,
                                      const void* bias) {
    static_cast<Plan*>(plan)->linear(from, to, residual, *weight, bias);
}

LEPTON_EXPORT void lepton_plan_rotary_store(void* plan, int buffer, const PlanHeads* heads, const float* cos_sin,
                                            int rotary_dim) {
    static_cast<Plan*>(plan)->rotary_store(buffer, *heads, cos_sin, rotary_dim);
}

LEPTON_EXPORT void lepton_plan_attention(void* plan, int from, int to, const PlanHeads* heads, float scale) {
    static_cast<Plan*>(plan)->attention(from, to, *heads, scale);
}

LEPTON_EXPORT int lepton_plan_run(void* plan, const PlanBatch* batch) {
    try {
        return static_cast<Plan*>(plan)->run(*batch) ? kOk : kBadArgument;
    } catch (const std::bad_alloc&) {
        return kOutOfMemory;
    }
}
