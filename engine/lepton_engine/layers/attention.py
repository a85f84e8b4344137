"""Attention over the paged KV cache."""

import torch
from torch import nn

from lepton_engine.config import LayerKV
from lepton_engine.kernels import dispatch
from lepton_engine.kernels.kv_scales import KVScales
from lepton_engine.layers.batch import BatchContext


class PagedAttention(nn.Module):
    """Stores the keys and values of a batch, then attends to all that its sequences have.

    Every layer stores all of the batch first, so that a sequence may read blocks that another fills in the same step.

    Args:
        spec: what the layer keeps per token. scale: factor on the scores.
    """

    def __init__(self, spec: LayerKV, scale: float) -> None:
        super().__init__()
        self.spec = spec
        self.scale = scale
        self.group = 0
        self.scales: KVScales | None = None
        self._cache: tuple[torch.Tensor, torch.Tensor] | None = None

    def bind(self, cache: tuple[torch.Tensor, ...], group: int) -> None:
        """Give the layer its keys and values, each [num_blocks, num_kv_heads, block_size, head_dim].

        Where they are quantised, their scales come behind them, see `KVScales`.
        """
        keys, values, *scales = cache
        self._cache = keys, values
        self.scales = KVScales(*scales) if scales else None
        self.group = group

    @property
    def cache(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and values that it is bound to."""
        if self._cache is None:
            raise RuntimeError("the KV cache is not bound")
        return self._cache

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, batch: BatchContext) -> torch.Tensor:
        """q [T, Hq, D], k and v [T, Hk, D] -> [T, Hq * D]."""
        keys, values = self.cache
        group = batch.groups[self.group]
        dispatch.store_kv(k, v, keys, values, group.slot_mapping, self.scales)
        out = dispatch.paged_attention(q, keys, values, batch, group, self.scale, self.spec.window, self.scales)
        return out.flatten(1)
