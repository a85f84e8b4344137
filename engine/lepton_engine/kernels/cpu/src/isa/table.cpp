// The kernels of one instruction set. Compiled once for each, with LEPTON_ISA as its name (see isa/vec.h).
#include "activation.h"
#include "argmax.h"
#include "attention_rows.h"
#include "attention_tile.h"
#include "linear.h"
#include "norm.h"
#include "rotary.h"

#define LEPTON_STRING(x) #x
#define LEPTON_NAME(x) LEPTON_STRING(x)

namespace lepton::LEPTON_ISA {

namespace {

size_t attention_scratch(const AttentionCall& call) {
    const int64_t group = call.num_q_heads / call.cache.num_heads;
    int64_t bytes = RowsScratch<float>(call, min_of(group, kTileRows), nullptr).bytes;
    bytes = max_of(bytes, TileScratch<float>(call, nullptr).bytes);
    return static_cast<size_t>(bytes);
}

}  // namespace

extern const KernelTable table;
const KernelTable table = {
    LEPTON_NAME(LEPTON_ISA),
    attention_scratch,
    kTileRows,
    {attention_rows<float>, attention_rows<BFloat16>, attention_rows<Float16>},
    {attention_tile<float>, attention_tile<BFloat16>, attention_tile<Float16>},
    {attention_write<float>, attention_write<BFloat16>, attention_write<Float16>},
    {rms_norm<float>, rms_norm<BFloat16>, rms_norm<Float16>},
    {rotary<float>, rotary<BFloat16>, rotary<Float16>},
    {silu_mul<float>, silu_mul<BFloat16>, silu_mul<Float16>},
    {linear_row_bytes<float>, linear_row_bytes<BFloat16>, linear_row_bytes<Float16>},
    {linear_rows<float>, linear_rows<BFloat16>, linear_rows<Float16>},
    {linear_scratch<float>, linear_scratch<BFloat16>, linear_scratch<Float16>},
    {linear<float>, linear<BFloat16>, linear<Float16>},
    argmax,
};

}  // namespace lepton::LEPTON_ISA
