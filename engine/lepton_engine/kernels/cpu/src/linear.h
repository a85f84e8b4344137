// Products with weights in panels, and how weights get there.
#pragma once

#include "args.h"

namespace lepton {

// Whether panels were seen to beat torch's products on this processor (benchmarks/kernels.py).
bool linear_worthwhile(DType dtype);

// Elements of a weight [n, k] in panels, for the given epilogue.
int64_t panel_elements(DType dtype, int64_t n, int64_t k, Epilogue epilogue);

// Brings weight [n, k], weight_stride elements from row to row, into panels.
void pack_panels(DType dtype, const void* weight, int64_t weight_stride, int64_t n, int64_t k, Epilogue epilogue,
                 void* panels, int threads);

// Reads rows of a weight [n, k] in panels (kPlain): out[i] = weight[ids[i]]; false if an id is not in [0, n).
bool gather_rows(DType dtype, const void* panels, int64_t n, int64_t k, const int64_t* ids, int64_t count, void* out);

void linear(const LinearCall& call, DType dtype, int threads);

}  // namespace lepton
