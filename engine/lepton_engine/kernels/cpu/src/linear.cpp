#include "linear.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "isa.h"
#include "parallel.h"

namespace lepton {

namespace {

constexpr int64_t kColumns = 16;            // weight rows are shared out in multiples of it
constexpr int64_t kThreadElements = 65536;  // of the weight, that are worth a thread of their own
constexpr int64_t kAlways = int64_t{1} << 40;
constexpr int64_t kPieces = 4;              // per thread, so that one which was held up does not hold up the other

}  // namespace

int64_t linear_worthwhile_rows(DType dtype) {
    const char* isa = kernels().name;
    if (std::strcmp(isa, "baseline") == 0) return 0;  // not measured
    // With AMX only reasoned, not measured: up to here the weight's arrival is what counts.
    if (dtype != kFloat32 && has_matrix_units()) return 8;
    if (dtype == kFloat32) return std::strcmp(isa, "avx2") == 0 ? 8 : 64;
    if (dtype == kBFloat16 && std::strcmp(isa, "avx512bf16") == 0) return 64;
    return kAlways;  // torch multiplies what the processor has no products for two to five times slower, at any size
}

void linear(const LinearCall& call, DType dtype, int threads) {
    const KernelTable& table = kernels();
    const int64_t worth = call.n * call.k / kThreadElements + 1;
    const int64_t blocks = (call.n + kColumns - 1) / kColumns;
    const int team = static_cast<int>(std::min<int64_t>(threads, worth));
    const int64_t piece = team == 1 ? call.n : (blocks + team * kPieces - 1) / (team * kPieces) * kColumns;
    std::atomic<int64_t> next{0};
    parallel(team, [&](int, int) {
        int64_t begin = next.fetch_add(piece);
        if (begin >= call.n) return;
        void* packed = scratch(Scratch::kOwn, table.linear_scratch(call));
        table.linear_pack[dtype](call, packed);
        for (; begin < call.n; begin = next.fetch_add(piece)) {
            table.linear[dtype](call, packed, begin, std::min(call.n, begin + piece));
        }
    });
}

}  // namespace lepton
