"""What a quantised KV cache holds beside its values."""

from dataclasses import dataclass

import torch

KV_DTYPES = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
"""Of quantised values, by the names of `kv_cache_dtype`."""


@dataclass(frozen=True, eq=False)
class KVScales:
    """The scales of a layer's keys and values, one for each token and head: value = stored * scale, symmetric.

    Attributes:
        keys, values: float32 [num_blocks, num_kv_heads, block_size].
    """

    keys: torch.Tensor
    values: torch.Tensor
