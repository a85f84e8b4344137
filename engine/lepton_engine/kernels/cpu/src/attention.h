// Paged attention of a flat batch: cuts it into tasks and shares them among the threads.
#pragma once

#include "args.h"

namespace lepton {

void paged_attention(const AttentionCall& call, DType dtype, int threads);

}  // namespace lepton
