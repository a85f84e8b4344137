"""The Triton kernels as functions on tensors of a CUDA device, where Triton is installed."""

import functools
import logging

import torch

from lepton_engine.kernels import reference
from lepton_engine.kernels.batch import BatchContext, KVGroupBatch
from lepton_engine.kernels.invariance import batch_invariant
from lepton_engine.kernels.kv_scales import KVScales
from lepton_engine.kernels.quantized import QuantizedWeight

logger = logging.getLogger(__name__)

_DTYPES = frozenset((torch.float32, torch.bfloat16, torch.float16))


class CudaKernels:
    """The kernels of `kernels.triton`; signatures are those of `reference`, which documents them.

    `takes` tells whether they can compute with a tensor; the twin serves the rest.
    """

    def __init__(self) -> None:
        from lepton_engine.kernels.triton import (
            activation,
            attention,
            kv_store,
            norm,
            quantized,
            rotary,
            sampling,
            thresholds,
        )

        self.rms_norm = norm.rms_norm
        self.add_rms_norm = norm.add_rms_norm
        self.apply_rotary = rotary.apply_rotary
        self.silu_mul = activation.silu_mul
        self.first_argmax = sampling.first_argmax
        self.draw = sampling.draw
        self.draw_from_logits = sampling.draw_from_logits
        self.least_weight = thresholds.least_weight
        self._store_kv = kv_store.store_kv
        self._computes_fp8 = quantized.computes_fp8
        self._attention = attention.paged_attention
        self._linear = quantized.linear
        self._quantized_linear = quantized.quantized_linear

    @staticmethod
    def takes(*tensors: torch.Tensor) -> bool:
        """Whether all are of one dtype that kernels compute in, their last dimension contiguous."""
        first = tensors[0].dtype
        return first in _DTYPES and all(x.dtype == first and x.stride(-1) == 1 for x in tensors)

    def store_kv(
        self,
        k: torch.Tensor,
        v: torch.Tensor,
        k_cache: torch.Tensor,
        v_cache: torch.Tensor,
        slot_mapping: torch.Tensor,
        scales: KVScales | None = None,
    ) -> None:
        """See `reference.store_kv`."""
        store = self._store_kv if self._reads(k_cache) else reference.store_kv
        store(k, v, k_cache, v_cache, slot_mapping, scales)

    def _reads(self, cache: torch.Tensor) -> bool:
        return cache.dtype != torch.float8_e4m3fn or self._computes_fp8(cache.device)

    def paged_attention(
        self,
        q: torch.Tensor,
        k_cache: torch.Tensor,
        v_cache: torch.Tensor,
        batch: BatchContext,
        group: KVGroupBatch,
        scale: float,
        window: int | None,
        scales: KVScales | None,
    ) -> torch.Tensor:
        """See `reference.paged_attention`."""
        if not self._reads(k_cache):
            return reference.paged_attention(q, k_cache, v_cache, batch, group, scale, window, scales)
        invariant = batch_invariant()
        return self._attention(q, k_cache, v_cache, batch, group, scale, window, scales, invariant=invariant)

    def linear(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """See `dispatch.linear`; x [T, in]."""
        return self._linear(x, weight, bias, invariant=batch_invariant())

    def quantized_linear(self, x: torch.Tensor, weight: QuantizedWeight, bias: torch.Tensor | None) -> torch.Tensor:
        """See `reference.quantized_linear`."""
        return self._quantized_linear(x, weight, bias, invariant=batch_invariant())


@functools.cache
def cuda() -> CudaKernels | None:
    """The kernels; None where Triton is not installed, which is said once."""
    try:
        return CudaKernels()
    except ImportError as error:
        logger.warning("no Triton (%s): torch's own kernels serve the device, slower", error)
        return None
