"""Pure decisions: requests, the block pool, the KV cache's bookkeeping and the scheduler. Imports no torch."""
