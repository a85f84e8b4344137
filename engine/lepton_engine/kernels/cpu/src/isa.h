// Which instruction sets were built, which the processor has, and which one is in use.
#pragma once

#include "args.h"

namespace lepton {

// The kernels in use: those of the best instruction set that the processor has, unless another was selected.
const KernelTable& kernels();

// Selects by name ("baseline", "avx2", "avx512", "avx512bf16"); false if it wasn't built or the processor lacks it.
bool select_kernels(const char* name);

// Whether the processor has matrix units that torch's products use (AMX).
bool has_matrix_units();

}  // namespace lepton
