#include "plan.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "attention.h"
#include "isa.h"
#include "linear.h"
#include "parallel.h"

namespace lepton {

namespace {

constexpr int64_t kGrain = 4096;  // elements that are worth a thread of their own in steps that do little with each

int64_t tokens_per_thread(int64_t width) { return kGrain / (width + 1) + 1; }

int64_t element_bytes(DType dtype) { return dtype == kFloat32 ? 4 : 2; }

}  // namespace

template <class T>
T* Plan::at(int buffer, const PlanBatch& batch, int64_t element) const {
    char* base = buffer == kOutput ? static_cast<char*>(batch.out) : buffers_[buffer];
    return reinterpret_cast<T*>(base + element * element_bytes(dtype_));
}

void Plan::embed(int to, const LinearWeight& weight, bool panels) {
    steps_.push_back([=](const PlanBatch& batch) {
        if (panels) return gather_rows(dtype_, weight, batch.input_ids, batch.tokens, at(to, batch));
        const int64_t row_bytes = weight.k * element_bytes(dtype_);
        for (int64_t i = 0; i < batch.tokens; ++i) {
            const int64_t id = batch.input_ids[i];
            if (id < 0 || id >= weight.n) return false;
            const char* row = static_cast<const char*>(weight.panels) + id * row_bytes;
            std::memcpy(at(to, batch) + i * row_bytes, row, row_bytes);
        }
        return true;
    });
}

void Plan::rms_norm(int from, int to, const void* weight, int64_t dim, float eps) {
    steps_.push_back([=](const PlanBatch& batch) {
        const NormCall call{at(from, batch), nullptr, weight, at(to, batch), nullptr, dim, 0, dim, eps};
        const auto kernel = kernels().rms_norm[dtype_];
        parallel_ranges(batch.threads, batch.tokens, tokens_per_thread(dim),
                        [&](int64_t begin, int64_t end) { kernel(call, begin, end); });
        return true;
    });
}

void Plan::head_norm(int buffer, const void* weight, int32_t first, int32_t count, int32_t dim, float eps) {
    const int64_t width = widths_[buffer];
    steps_.push_back([=](const PlanBatch& batch) {
        const auto kernel = kernels().rms_norm[dtype_];
        parallel_ranges(batch.threads, batch.tokens, tokens_per_thread(int64_t{count} * dim),
                        [&](int64_t begin, int64_t end) {
                            for (int64_t token = begin; token < end; ++token) {
                                char* heads = at(buffer, batch, token * width + int64_t{first} * dim);
                                kernel({heads, nullptr, weight, heads, nullptr, dim, 0, dim, eps}, 0, count);
                            }
                        });
        return true;
    });
}

void Plan::linear(int from, int to, int residual, const LinearWeight& weight, const void* bias) {
    steps_.push_back([=](const PlanBatch& batch) {
        const void* added = residual < kOutput ? nullptr : at(residual, batch);
        const LinearCall call{weight, at(from, batch), bias, added, at(to, batch), widths_[from], batch.tokens, false};
        lepton::linear(call, dtype_, batch.threads);
        return true;
    });
}

void Plan::rotary_store(int buffer, const PlanHeads& heads, const float* cos_sin, int32_t rotary_dim) {
    const int64_t width = widths_[buffer];
    steps_.push_back([=](const PlanBatch& batch) {
        const int64_t keys = int64_t{heads.num_q_heads} * heads.cache.head_dim;
        const int64_t values = keys + int64_t{heads.cache.num_heads} * heads.cache.head_dim;
        const RotaryCall call{at(buffer, batch),
                              at(buffer, batch, keys),
                              at(buffer, batch, values),
                              batch.positions,
                              cos_sin,
                              heads.cache,
                              batch.groups[heads.group].slots,
                              width,
                              width,
                              width,
                              heads.num_q_heads,
                              rotary_dim};
        const auto kernel = kernels().rotary[dtype_];
        parallel_ranges(batch.threads, batch.tokens, tokens_per_thread(width),
                        [&](int64_t begin, int64_t end) { kernel(call, begin, end); });
        return true;
    });
}

void Plan::attention(int from, int to, const PlanHeads& heads, float scale) {
    const int64_t width = widths_[from];
    steps_.push_back([=](const PlanBatch& batch) {
        const GroupBatch& group = batch.groups[heads.group];
        const AttentionCall call{at(from, batch),
                                 heads.cache,
                                 at(to, batch),
                                 group.block_table,
                                 batch.query_start,
                                 batch.seq_lens,
                                 width,
                                 group.table_stride,
                                 batch.num_seqs,
                                 heads.num_q_heads,
                                 heads.window,
                                 batch.invariant,
                                 scale};
        paged_attention(call, dtype_, batch.threads);
        return true;
    });
}

bool Plan::run(const PlanBatch& batch) {
    if (batch.tokens > capacity_) {
        // Each buffer on pages of its own.
        std::vector<int64_t> ends;
        int64_t bytes = 0;
        for (const int64_t width : widths_) {
            ends.push_back(bytes);
            bytes += (width * batch.tokens * element_bytes(dtype_) + 4095) / 4096 * 4096;
        }
        memory_.reset(static_cast<char*>(std::aligned_alloc(4096, bytes)));
        capacity_ = memory_ ? batch.tokens : 0;
        if (!memory_) throw std::bad_alloc();
        buffers_.clear();
        for (const int64_t begin : ends) buffers_.push_back(memory_.get() + begin);
    }
    bool ok = true;
    with_team(batch.threads, [&] {
        for (const Step& step : steps_) {
            if (!step(batch)) {
                ok = false;
                return;
            }
        }
    });
    return ok;
}

}  // namespace lepton
