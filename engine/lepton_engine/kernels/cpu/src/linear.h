// Products with weights in panels, and how weights get there.
#pragma once

#include "args.h"

namespace lepton {

// Whether panels were seen to beat torch's products on this processor (benchmarks/kernels.py).
bool linear_worthwhile(DType dtype);

// Bytes of a weight's panels.
int64_t panel_bytes(DType dtype, const LinearWeight& weight);

// Fills the panels of a weight from [n, k], stride bytes from row to row. int8: signed; int4: unsigned, element 2i in the
// low half of byte i, 2i + 1 in its high half.
void pack_panels(DType dtype, const LinearWeight& weight, const void* rows, int64_t stride, void* panels, int threads);

// Brings numbers [n, groups] into the order of LinearWeight::scales.
void pack_scales(const LinearWeight& weight, const float* numbers, float* out);

// Reads rows of a plain weight: out[i] = weight[ids[i]]; false if an id is not in [0, n).
bool gather_rows(DType dtype, const LinearWeight& weight, const int64_t* ids, int64_t count, void* out);

void linear(const LinearCall& call, DType dtype, int threads);

}  // namespace lepton
