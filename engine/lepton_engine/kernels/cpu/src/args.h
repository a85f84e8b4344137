// What the C ABI hands to a kernel: plain structs, shared by code compiled for every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lepton {

// Storage formats of 16 bits; arithmetic on them is in float, or in the processor's own dot products.
struct BFloat16 {
    uint16_t bits;
};
struct Float16 {
    uint16_t bits;
};

// Element types as the C ABI numbers them.
enum DType : int32_t { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2, kNumDTypes = 3 };

struct AttentionCall {
    const void* q;       // [T, Hq, D], q_stride elements from token to token
    const void* k_cache;  // [num_blocks, Hk, block_size, D], block_stride elements from block to block
    const void* v_cache;
    void* out;  // [T, Hq, D], contiguous
    const int32_t* block_table;  // [num_seqs, *], table_stride entries from sequence to sequence
    const int32_t* query_start;  // [num_seqs + 1]
    const int32_t* seq_lens;     // [num_seqs]
    int64_t q_stride;
    int64_t block_stride;
    int64_t table_stride;
    int32_t num_seqs;
    int32_t num_q_heads;
    int32_t num_kv_heads;
    int32_t head_dim;
    int32_t block_size;
    int32_t window;  // keys that a query sees at most, itself included; 0: all before it
    float scale;
};

// One piece of an attention call, for one thread: some queries of one sequence, some heads that read one key/value
// head, and the keys [key_begin, key_end). Where the keys of a query are split over several tasks, each leaves
// its part of the softmax in `partial`: for each row its maximum, its sum, and head_dim weighted values.
struct AttentionTask {
    int32_t seq;
    int32_t kv_head;
    int32_t head_begin;  // within the group of heads that reads kv_head
    int32_t num_heads;
    int32_t query_begin;  // within the sequence's new tokens
    int32_t num_queries;
    int32_t key_begin;
    int32_t key_end;
    float* partial;  // null: the task covers all keys and writes to `out`
};

// Softmax state of one row in `AttentionTask::partial`, followed by head_dim floats.
struct PartialRow {
    float max;  // in units of log2
    float sum;
};

struct NormCall {
    const void* x;  // [rows, dim], x_stride elements from row to row
    const void* residual;  // added to x before the norm; null: none
    const void* weight;    // [dim]
    void* out;             // [rows, dim], contiguous
    void* new_residual;    // [rows, dim], contiguous: x + residual
    int64_t x_stride;
    int64_t residual_stride;
    int64_t dim;
    float eps;
};

struct RotaryCall {
    void* q;  // [T, Hq, D], rotated in place; q_stride elements from token to token
    void* k;  // [T, Hk, D]
    const void* v;  // [T, Hk, D]; only read where k_cache is given
    const int64_t* positions;  // [T]
    const float* cos_sin;      // [P, rotary_dim]: cosines, then sines; null: nothing is rotated
    void* k_cache;  // null: nothing is stored
    void* v_cache;
    const int64_t* slots;  // [T]
    int64_t q_stride;
    int64_t k_stride;
    int64_t v_stride;
    int64_t block_stride;
    int32_t num_q_heads;
    int32_t num_kv_heads;
    int32_t head_dim;
    int32_t rotary_dim;
    int32_t block_size;
};

struct SiluMulCall {
    const void* gate_up;  // [rows, 2 * dim], stride elements from row to row
    void* out;            // [rows, dim], contiguous
    int64_t stride;
    int64_t dim;
};

struct LinearCall {
    const void* x;       // [m, k], x_stride elements from row to row
    const void* weight;  // [n, k], weight_stride elements from row to row
    const void* bias;    // [n] or null
    void* out;           // [m, n], contiguous
    int64_t x_stride;
    int64_t weight_stride;
    int64_t m;
    int64_t n;
    int64_t k;
};

// The kernels of one instruction set. Those that come by element type are null where a type has none.
struct KernelTable {
    const char* name;
    // Bytes of scratch memory that one attention task may use.
    size_t (*attention_scratch)(const AttentionCall&);
    // Rows (queries times heads) that a task of the tiled kernel takes at most.
    int32_t attention_tile_rows;
    // One query of a few heads against its keys: the keys are read as they lie.
    void (*attention_rows[kNumDTypes])(const AttentionCall&, const AttentionTask&, void* scratch);
    // Many rows at once, flash-style.
    void (*attention_tile[kNumDTypes])(const AttentionCall&, const AttentionTask&, void* scratch);
    // Writes the heads of a single query, [num_heads, head_dim] floats, to `out`.
    void (*attention_write[kNumDTypes])(const AttentionCall&, const AttentionTask&, const float* rows);
    void (*rms_norm[kNumDTypes])(const NormCall&, int64_t begin, int64_t end);
    void (*rotary[kNumDTypes])(const RotaryCall&, int64_t begin, int64_t end);
    void (*silu_mul[kNumDTypes])(const SiluMulCall&, int64_t begin, int64_t end);
    // Bytes that linear_pack writes: x in the form that `linear` takes.
    size_t (*linear_scratch)(const LinearCall&);
    void (*linear_pack[kNumDTypes])(const LinearCall&, void* packed);
    // Output columns [begin, end) of every row.
    void (*linear[kNumDTypes])(const LinearCall&, const void* packed, int64_t begin, int64_t end);
};

}  // namespace lepton
