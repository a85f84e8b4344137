// Products of a few rows with a large weight.
#pragma once

#include "args.h"

namespace lepton {

// Rows of x up to which `linear` was seen to beat torch's matrix products (benchmarks/kernels.py); 0: never.
int64_t linear_worthwhile_rows(DType dtype);

void linear(const LinearCall& call, DType dtype, int threads);

}  // namespace lepton
