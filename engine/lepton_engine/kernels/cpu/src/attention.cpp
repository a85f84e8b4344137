#include "attention.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "isa.h"
#include "parallel.h"

namespace lepton {

namespace {

// A single query's keys are shared out in pieces that end at multiples of this. Fixed, so that a result does not
// depend on how many threads there are or on what else is in the batch.
constexpr int32_t kSplitKeys = 256;

// From this many heads on a single query is worth the tiled kernel, whose cost per key does not depend on them.
constexpr int32_t kRowsHeads = 12;

// One query of one sequence and key/value head whose keys are split: its tasks leave partial results.
struct Split {
    AttentionTask task;  // of the first part; its `partial` is where the parts begin
    int32_t parts;
    std::atomic<int32_t> left;

    Split(const AttentionTask& task, int32_t parts) : task(task), parts(parts), left(parts) {}
    Split(Split&& other) : task(other.task), parts(other.parts), left(other.parts) {}
};

struct Plan {
    std::vector<AttentionTask> tasks;
    std::vector<int32_t> split_of;  // index into splits of each task, or -1
    std::vector<Split> splits;
    int64_t partial_floats = 0;
};

// Whether a query is worth kernels and cuts of its own. Their sums are of another order than those of a chunk.
bool is_single(const AttentionCall& call, int32_t query_len) { return query_len == 1 && !call.invariant; }

void plan_sequence(const AttentionCall& call, int32_t tile_rows, int32_t seq, bool single, Plan& plan) {
    const int32_t query_len = call.query_start[seq + 1] - call.query_start[seq];
    if (query_len <= 0 || is_single(call, query_len) != single) return;
    const int32_t group = call.num_q_heads / call.cache.num_heads;
    const int32_t num_heads = std::min(group, tile_rows);
    const int32_t num_queries = std::max(1, tile_rows / num_heads);
    // The last queries see the most keys: the longest tasks first, so that the threads finish together.
    for (int32_t end = query_len; end > 0; end -= num_queries) {
        const int32_t begin = std::max(0, end - num_queries);
        const int32_t first = call.seq_lens[seq] - query_len + begin;
        int32_t key_begin = call.window ? std::max(0, first - call.window + 1) : 0;
        // Products may take keys in pairs: always the same ones. Blocks are of even size, so both keys are there.
        if (call.invariant && call.cache.block_size % 2 == 0) key_begin -= key_begin % 2;
        const int32_t key_end = call.seq_lens[seq] - query_len + end;
        const int32_t parts = single ? (key_end - 1) / kSplitKeys - key_begin / kSplitKeys + 1 : 1;
        for (int32_t kv_head = 0; kv_head < call.cache.num_heads; ++kv_head) {
            for (int32_t head = 0; head < group; head += num_heads) {
                AttentionTask task{seq,         kv_head,   head,    std::min(num_heads, group - head), begin,
                                   end - begin, key_begin, key_end, nullptr};
                if (parts == 1) {
                    plan.tasks.push_back(task);
                    plan.split_of.push_back(-1);
                    continue;
                }
                const int32_t split = static_cast<int32_t>(plan.splits.size());
                plan.splits.emplace_back(task, parts);
                for (int32_t part = 0; part < parts; ++part) {
                    task.key_end = std::min(key_end, (task.key_begin / kSplitKeys + 1) * kSplitKeys);
                    plan.tasks.push_back(task);
                    plan.split_of.push_back(split);
                    task.key_begin = task.key_end;
                }
                plan.partial_floats += int64_t{parts} * task.num_heads * (call.cache.head_dim + 2);
            }
        }
    }
}

// Puts the parts of a split together, in their order whatever the threads' order was.
void merge(const AttentionCall& call, const Split& split, float* merged) {
    const int64_t dim = call.cache.head_dim, row_floats = dim + 2, part_floats = row_floats * split.task.num_heads;
    for (int64_t head = 0; head < split.task.num_heads; ++head) {
        const float* rows = split.task.partial + head * row_floats;
        float max = rows[0];
        for (int32_t part = 1; part < split.parts; ++part) max = std::max(max, rows[part * part_floats]);
        float* out = merged + head * dim;
        std::fill(out, out + dim, 0.0f);
        float sum = 0;
        for (int32_t part = 0; part < split.parts; ++part) {
            const float* row = rows + part * part_floats;
            const float factor = __builtin_exp2f(row[0] - max);
            sum += row[1] * factor;
            for (int64_t d = 0; d < dim; ++d) out[d] += row[2 + d] * factor;
        }
        const float inverse = 1.0f / sum;
        for (int64_t d = 0; d < dim; ++d) out[d] *= inverse;
    }
}

}  // namespace

void paged_attention(const AttentionCall& call, DType dtype, int threads) {
    const KernelTable& table = kernels();
    thread_local Plan plan;
    plan.tasks.clear();
    plan.split_of.clear();
    plan.splits.clear();
    plan.partial_floats = 0;
    for (const bool single : {false, true}) {
        for (int32_t seq = 0; seq < call.num_seqs; ++seq) {
            plan_sequence(call, table.attention_tile_rows, seq, single, plan);
        }
    }
    const int32_t count = static_cast<int32_t>(plan.tasks.size());
    if (plan.partial_floats) {
        float* next = static_cast<float*>(scratch(Scratch::kShared, plan.partial_floats * sizeof(float)));
        int32_t last = -1;
        for (int32_t i = 0; i < count; ++i) {
            const int32_t split = plan.split_of[i];
            if (split < 0) continue;
            if (split != last) plan.splits[split].task.partial = next;
            last = split;
            plan.tasks[i].partial = next;
            next += plan.tasks[i].num_heads * (call.cache.head_dim + 2);
        }
    }

    Plan& shared = plan;  // `plan` would be each thread's own
    const size_t bytes = table.attention_scratch(call);
    std::atomic<int32_t> next{0};
    parallel(std::min(threads, count), [&](int, int) {
        void* memory = scratch(Scratch::kOwn, bytes);
        for (int32_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
            const AttentionTask& task = shared.tasks[i];
            if (is_single(call, task.num_queries) && task.num_heads < kRowsHeads) {
                const int32_t after = next.load(std::memory_order_relaxed);
                table.attention_rows[dtype](call, task, after < count ? &shared.tasks[after] : nullptr, memory);
            } else {
                table.attention_tile[dtype](call, task, memory);
            }
            const int32_t split = shared.split_of[i];
            // Whoever finishes the last part merges them all.
            if (split >= 0 && shared.splits[split].left.fetch_sub(1, std::memory_order_acq_rel) == 1) {
                float* merged = static_cast<float*>(memory);
                const AttentionTask& whole = shared.splits[split].task;
                merge(call, shared.splits[split], merged);
                table.attention_write[dtype](call, whole, merged);
            }
        }
    });
}

}  // namespace lepton
