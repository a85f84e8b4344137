// A forward pass as a list of steps over buffers, made when a model is loaded and run by one call for each batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#include "args.h"

namespace lepton {

// The part of a batch that belongs to one KV cache group.
struct GroupBatch {
    const int32_t* block_table;  // [num_seqs, *], table_stride entries from sequence to sequence
    const int64_t* slots;        // [T]
    int64_t table_stride;
};

struct PlanBatch {
    const int64_t* input_ids;    // [T]
    const int64_t* positions;    // [T]
    const int32_t* query_start;  // [num_seqs + 1]
    const int32_t* seq_lens;     // [num_seqs]
    const GroupBatch* groups;
    void* out;  // [T, width of the last step]
    int64_t tokens;
    int32_t num_seqs;
    int32_t threads;
    int32_t invariant;  // see AttentionCall
};

// How the heads of one layer lie in a buffer: per token the queries, the keys and the values; and its part of the cache.
struct PlanHeads {
    PagedCache cache;
    int32_t num_q_heads;
    int32_t group;   // of the KV cache
    int32_t window;  // 0: none
};

class Plan {
  public:
    // widths: elements per token of each buffer; steps name buffers by index. kOutput is the batch's `out`.
    Plan(DType dtype, std::vector<int64_t> widths) : dtype_(dtype), widths_(std::move(widths)) {}

    static constexpr int kOutput = -1;

    // A plain weight, in panels or row by row.
    void embed(int to, const LinearWeight& weight, bool panels);
    void rms_norm(int from, int to, const void* weight, int64_t dim, float eps);
    // The norm of each head of `count` heads from `first` on, in place.
    void head_norm(int buffer, const void* weight, int32_t first, int32_t count, int32_t dim, float eps);
    // residual: a buffer, or less than kOutput for none.
    void linear(int from, int to, int residual, const LinearWeight& weight, const void* bias);
    void rotary_store(int buffer, const PlanHeads& heads, const float* cos_sin, int32_t rotary_dim);
    void attention(int from, int to, const PlanHeads& heads, float scale);

    // False if an input id is not in the embedding. Throws std::bad_alloc. One batch at a time.
    bool run(const PlanBatch& batch);

  private:
    using Step = std::function<bool(const PlanBatch&)>;

    template <class T = char>
    T* at(int buffer, const PlanBatch& batch, int64_t element = 0) const;

    DType dtype_;
    std::vector<int64_t> widths_;
    std::vector<Step> steps_;
    std::unique_ptr<char, decltype(&std::free)> memory_{nullptr, &std::free};
    std::vector<char*> buffers_;
    int64_t capacity_ = 0;  // tokens
};

}  // namespace lepton
