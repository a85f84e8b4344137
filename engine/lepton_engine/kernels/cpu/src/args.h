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

// How elements are stored, of weights and of the KV cache. kPlain is the type that the kernel computes with.
enum Format : int32_t { kPlain = 0, kInt8 = 1, kInt4 = 2, kFloat8 = 3, kNumFormats = 4 };

constexpr int32_t kMostQuantizedDim = 1024;  // head_dim of a quantised cache

// Keys and values of one layer.
struct PagedCache {
    void* keys;  // [num_blocks, Hk, block_size, D], block_stride elements from block to block
    void* values;
    float* key_scales;  // [num_blocks, Hk, block_size]: value = stored * scale; null with kPlain
    float* value_scales;
    int64_t block_stride;
    int32_t num_heads;
    int32_t head_dim;
    int32_t block_size;
    Format format;  // kPlain, kInt8 or kFloat8
};

struct AttentionCall {
    const void* q;       // [T, Hq, D], q_stride elements from token to token
    PagedCache cache;
    void* out;  // [T, Hq, D], contiguous
    const int32_t* block_table;  // [num_seqs, *], table_stride entries from sequence to sequence
    const int32_t* query_start;  // [num_seqs + 1]
    const int32_t* seq_lens;     // [num_seqs]
    int64_t q_stride;
    int64_t table_stride;
    int32_t num_seqs;
    int32_t num_q_heads;
    int32_t window;  // keys that a query sees at most, itself included; 0: all before it
    int32_t invariant;  // a query's result has the same bits whatever else its sequence computes in the call
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
    const void* v;  // [T, Hk, D]; only read where there is a cache
    const int64_t* positions;  // [T]
    const float* cos_sin;      // [P, rotary_dim]: cosines, then sines; null: nothing is rotated
    PagedCache cache;  // without keys nothing is stored; its num_heads and head_dim count all the same
    const int64_t* slots;  // [T]
    int64_t q_stride;
    int64_t k_stride;
    int64_t v_stride;
    int32_t num_q_heads;
    int32_t rotary_dim;
};

struct SiluMulCall {
    const void* gate_up;  // [rows, 2 * dim], stride elements from row to row
    void* out;            // [rows, dim], contiguous
    int64_t stride;
    int64_t dim;
};

// A weight [n, k] lies in panels of kPanel rows, so that one product after the other reads it in the order of
// addresses. A panel is [k / step][kPanel][step] elements; step is what a product's instruction takes at once. Rows
// beyond n and columns beyond k are filled up with zeros. A gated weight is the gate's n / 2 rows above as many others;
// each panel holds half of its rows of either, and the product is silu(gate) * other.
constexpr int64_t kPanel = 32;
constexpr int64_t panel_step(DType dtype, Format format) {
    switch (format) {
        case kInt8:
        case kFloat8:
            return 4;
        case kInt4:
            return 8;  // in 4 bytes: of the first four elements the low halves, of the others the high ones
        default:
            return dtype == kBFloat16 ? 2 : 1;
    }
}

constexpr float kInt4Zero = 8;

struct LinearWeight {
    const void* panels;
    const float* scales;         // [panels][groups][kPanel]; null with kPlain
    const float* zeros;          // the same, of kInt4: value = (stored - zero) * scale; null: kInt4Zero throughout
    const int64_t* permutation;  // [k]: column i of the weight belongs to x[permutation[i]]; null: to x[i]
    int64_t n;
    int64_t k;
    int64_t group;      // columns that share a scale; k with kPlain
    Format format;
    int32_t gated;
    int32_t int8_rows;  // x is quantised as well: per row, symmetric

    int64_t columns() const { return gated ? n / 2 : n; }
    int64_t panel_columns() const { return gated ? kPanel / 2 : kPanel; }
    int64_t num_panels() const { return (columns() + panel_columns() - 1) / panel_columns(); }
    int64_t groups() const { return k / group; }
};

struct LinearCall {
    LinearWeight weight;
    const void* x;         // [m, k], x_stride elements from row to row
    const void* bias;      // [n] or null; of a gated weight the gate's, then the other's
    const void* residual;  // [m, columns] or null: added to the product
    void* out;             // [m, columns], contiguous
    int64_t x_stride;
    int64_t m;
    int32_t out_float;  // out holds floats, whatever the type of x
};

// The kernels of one instruction set. Those that come by element type are null where a type has none.
struct KernelTable {
    const char* name;
    // Bytes of scratch memory that one attention task may use.
    size_t (*attention_scratch)(const AttentionCall&);
    // Rows (queries times heads) that a task of the tiled kernel takes at most.
    int32_t attention_tile_rows;
    // One query of a few heads against its keys: the keys are read as they lie. The first keys of the task that is
    // likely to be the thread's next one are fetched meanwhile; null: none.
    void (*attention_rows[kNumDTypes])(const AttentionCall&, const AttentionTask&, const AttentionTask* next,
                                       void* scratch);
    // Many rows at once, flash-style.
    void (*attention_tile[kNumDTypes])(const AttentionCall&, const AttentionTask&, void* scratch);
    // Writes the heads of a single query, [num_heads, head_dim] floats, to `out`.
    void (*attention_write[kNumDTypes])(const AttentionCall&, const AttentionTask&, const float* rows);
    void (*rms_norm[kNumDTypes])(const NormCall&, int64_t begin, int64_t end);
    void (*rotary[kNumDTypes])(const RotaryCall&, int64_t begin, int64_t end);
    void (*silu_mul[kNumDTypes])(const SiluMulCall&, int64_t begin, int64_t end);
    // Bytes that linear_rows writes per row of x; 0: it need not be called, x is taken as it lies.
    int64_t (*linear_row_bytes[kNumDTypes])(const LinearCall&);
    // Rows [begin, end) of x in the form that `linear` takes.
    void (*linear_rows[kNumDTypes])(const LinearCall&, int64_t begin, int64_t end, void* rows, void* scratch);
    // Bytes of scratch memory that both use for that many rows.
    int64_t (*linear_scratch[kNumDTypes])(const LinearCall&, int64_t rows);
    // Rows [row_begin, row_end) by panels [panel_begin, panel_end); `rows` as linear_rows wrote them, or null.
    void (*linear[kNumDTypes])(const LinearCall&, const void* rows, void* scratch, int64_t row_begin, int64_t row_end,
                               int64_t panel_begin, int64_t panel_end);
    // The largest of count > 0 values, NaN before all others, and where it is first.
    void (*argmax)(const float* row, int64_t count, float* best, int64_t* index);
};

}  // namespace lepton
