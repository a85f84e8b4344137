"""A forward pass as a list of native steps over buffers: made once, run by one call for each batch."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lepton_engine.kernels.batch import BatchContext
from lepton_engine.kernels.cpu.cache import NativeCache, native_cache
from lepton_engine.kernels.cpu.native import DTYPE_CODES, check, native
from lepton_engine.kernels.cpu.panels import NativeWeight, PanelWeight
from lepton_engine.kernels.invariance import batch_invariant
from lepton_engine.kernels.kv_scales import KVScales

OUTPUT = -1
"""The buffer that `ForwardPlan.run` returns."""

_NO_BUFFER = -2
_POINTER = ctypes.c_void_p
_INT64 = ctypes.c_int64
_INT32 = ctypes.c_int32


class _GroupBatch(ctypes.Structure):
    _fields_ = (("block_table", _POINTER), ("slots", _POINTER), ("table_stride", _INT64))


class _PlanBatch(ctypes.Structure):
    _fields_ = (
        ("input_ids", _POINTER),
        ("positions", _POINTER),
        ("query_start", _POINTER),
        ("seq_lens", _POINTER),
        ("groups", ctypes.POINTER(_GroupBatch)),
        ("out", _POINTER),
        ("tokens", _INT64),
        ("num_seqs", _INT32),
        ("threads", _INT32),
        ("invariant", _INT32),
    )


class _PlanHeads(ctypes.Structure):
    _fields_ = (
        ("cache", NativeCache),
        ("num_q_heads", _INT32),
        ("group", _INT32),
        ("window", _INT32),
    )


@dataclass(frozen=True)
class PlanHeads:
    """The heads of one layer: in a buffer, per token, the queries, the keys and the values; and its KV cache.

    Attributes:
        keys, values, scales: of the layer, as `is_native` takes them. group: of the KV cache.
        window: tokens that a query sees; None for all.
    """

    num_q_heads: int
    keys: torch.Tensor
    values: torch.Tensor
    scales: KVScales | None
    group: int
    window: int | None


class ForwardPlan:
    """Steps are added in their order, then `run` any number of times; one batch at a time.

    Buffers hold one row per token; steps name them by index. The plan keeps the tensors that it is given alive, and
    reads them where they are.

    Args:
        widths: elements per token of each buffer. output: of what `run` returns.

    Raises:
        RuntimeError: there are no native kernels.
        MemoryError: no memory is left.
    """

    def __init__(self, dtype: torch.dtype, widths: Sequence[int], output: int) -> None:
        kernels = native()
        if kernels is None:
            raise RuntimeError("there are no native kernels")
        self._library = kernels.library
        self._dtype = dtype
        self._output = output
        self._kept: list[torch.Tensor] = []
        code = DTYPE_CODES[dtype]
        self._plan = self._library.lepton_plan_new(code, (_INT64 * len(widths))(*widths), len(widths))
        if not self._plan:
            raise MemoryError("no memory for a plan")

    def __del__(self) -> None:
        if plan := getattr(self, "_plan", None):
            self._library.lepton_plan_free(plan)

    def embed(self, to: int, weight: torch.Tensor | PanelWeight) -> None:
        """Rows of the embedding [vocabulary, width] for the input ids."""
        if isinstance(weight, PanelWeight):
            native_weight = self._keep_weight(weight)
        else:
            rows, columns = weight.shape
            native_weight = NativeWeight(panels=self._keep(weight), n=rows, k=columns, group=columns)
        panels = isinstance(weight, PanelWeight)
        self._library.lepton_plan_embed(self._plan, to, ctypes.byref(native_weight), panels)

    def rms_norm(self, source: int, to: int, weight: torch.Tensor, eps: float) -> None:
        """See `reference.rms_norm`."""
        self._library.lepton_plan_rms_norm(self._plan, source, to, self._keep(weight), weight.shape[0], eps)

    def head_norm(self, buffer: int, weight: torch.Tensor, heads: range, eps: float) -> None:
        """See `reference.rms_norm`: of each of these heads in a buffer of heads, in place."""
        dim = weight.shape[0]
        self._library.lepton_plan_head_norm(self._plan, buffer, self._keep(weight), heads.start, len(heads), dim, eps)

    def linear(
        self, source: int, to: int, weight: PanelWeight, bias: torch.Tensor | None, residual: int | None = None
    ) -> None:
        """The product with a weight, plus bias and the residual; the residual may be the target itself."""
        self._library.lepton_plan_linear(
            self._plan,
            source,
            to,
            _NO_BUFFER if residual is None else residual,
            ctypes.byref(self._keep_weight(weight)),
            None if bias is None else self._keep(bias),
        )

    def rotary_store(self, buffer: int, heads: PlanHeads, cos_sin: torch.Tensor) -> None:
        """See `reference.apply_rotary` and `reference.store_kv`."""
        native_heads = self._heads(heads)
        self._library.lepton_plan_rotary_store(
            self._plan, buffer, ctypes.byref(native_heads), self._keep(cos_sin), cos_sin.shape[1]
        )

    def attention(self, source: int, to: int, heads: PlanHeads, scale: float) -> None:
        """See `reference.paged_attention`."""
        native_heads = self._heads(heads)
        self._library.lepton_plan_attention(self._plan, source, to, ctypes.byref(native_heads), scale)

    def run(self, input_ids: torch.Tensor, batch: BatchContext) -> torch.Tensor:
        """Input ids int64 [T] -> the output buffer, [T, output].

        Raises:
            RuntimeError: an input id is not in the embedding.
            MemoryError: no memory is left for the buffers.
        """
        tokens = input_ids.shape[0]
        out = torch.empty((tokens, self._output), dtype=self._dtype)
        groups = (_GroupBatch * len(batch.groups))(
            *(
                _GroupBatch(group.block_table.data_ptr(), group.slot_mapping.data_ptr(), group.block_table.stride(0))
                for group in batch.groups
            )
        )
        arguments = _PlanBatch(
            input_ids.data_ptr(),
            batch.positions.data_ptr(),
            batch.query_start.data_ptr(),
            batch.seq_lens.data_ptr(),
            groups,
            out.data_ptr(),
            tokens,
            len(batch.query_lens),
            torch.get_num_threads(),
            batch_invariant(),
        )
        check("plan", self._library.lepton_plan_run(self._plan, ctypes.byref(arguments)))
        return out

    def _keep(self, tensor: torch.Tensor) -> int:
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _keep_weight(self, weight: PanelWeight) -> NativeWeight:
        self._kept.extend(weight.tensors)
        return weight.native

    def _heads(self, heads: PlanHeads) -> _PlanHeads:
        self._kept += [heads.keys, heads.values]
        if heads.scales is not None:
            self._kept += [heads.scales.keys, heads.scales.values]
        cache = native_cache(heads.keys, heads.values, heads.scales)
        return _PlanHeads(cache, heads.num_q_heads, heads.group, heads.window or 0)
