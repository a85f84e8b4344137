"""The CPU kernels on tensors: each checks what the C ABI can't, and makes one call."""

import ctypes
import functools

import torch

from lepton_engine.kernels.batch import BatchContext, KVGroupBatch
from lepton_engine.kernels.cpu import library
from lepton_engine.kernels.cpu.cache import NativeCache, is_native, native_cache
from lepton_engine.kernels.cpu.panels import FORMATS, NativeWeight, PanelWeight
from lepton_engine.kernels.invariance import batch_invariant
from lepton_engine.kernels.kv_scales import KVScales
from lepton_engine.kernels.quantized import QuantizedWeight

DTYPE_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""Element types as the C ABI numbers them."""

_STATUS = {1: "an argument that no kernel takes", 2: "out of memory"}


class NativeKernels:
    """The kernels of `reference` by the same names, in one native call each.

    They take float32, bfloat16 and float16 tensors in ordinary memory and run on torch.get_num_threads() threads of
    torch's own pool. What they cannot take (see `takes_*`) belongs to the twin; the methods don't check it again.
    """

    def __init__(self, lib: ctypes.CDLL) -> None:
        self.library = lib
        self._attention = lib.lepton_paged_attention
        self._rms_norm = lib.lepton_rms_norm
        self._rotary_store = lib.lepton_rotary_store
        self._linear = lib.lepton_linear
        self._silu_mul = lib.lepton_silu_mul
        self._argmax = lib.lepton_argmax

    @property
    def isa(self) -> str:
        """The instruction set in use: baseline, avx2, avx512 or avx512bf16."""
        return library.current_isa(self.library)

    def select_isa(self, name: str) -> None:
        """Keeps to one instruction set, for all threads of the process; tests compare them. ValueError if it can't."""
        library.select_isa(self.library, name)

    def takes(self, x: torch.Tensor) -> bool:
        """Whether a tensor is of a kind that the kernels compute with: CPU memory, rows contiguous."""
        return x.is_cpu and x.dtype in DTYPE_CODES and x.stride(-1) == 1

    def takes_rows(self, x: torch.Tensor, residual: torch.Tensor) -> bool:
        """Whether add_rms_norm can run: two dimensions, rows contiguous; the residual, which it overwrites, wholly."""
        return (
            x.dim() == 2
            and self.takes(x)
            and residual.dtype == x.dtype
            and residual.is_contiguous()
            and residual.shape == x.shape
        )

    def takes_heads(self, x: torch.Tensor) -> bool:
        """Whether a [T, H, D] tensor has its heads side by side, as kernels over heads need it."""
        return x.is_cpu and x.dtype in DTYPE_CODES and x.stride()[1:] == (x.shape[2], 1)

    def worth_packing(self, weight: torch.Tensor) -> bool:
        """Whether products with a weight [out, in] in panels are faster than torch's on this machine."""
        takes = weight.is_cpu and weight.dtype in DTYPE_CODES and weight.dim() == 2 and weight.stride(1) == 1
        return takes and bool(self.library.lepton_linear_worthwhile(DTYPE_CODES[weight.dtype]))

    def takes_quantized(self, weight: QuantizedWeight) -> bool:
        """Whether a quantised weight can go into panels."""
        whole_groups = weight.group_size % 8 == 0 or weight.group_size == weight.in_features
        return weight.data.is_cpu and weight.activations != "fp8" and whole_groups

    def takes_linear(self, x: torch.Tensor, weight: PanelWeight) -> bool:
        """Whether `linear` can run: two dimensions, rows contiguous, the dtype of a plain weight."""
        dtypes = DTYPE_CODES if weight.dtype is None else (weight.dtype,)
        return x.is_cpu and x.dim() == 2 and x.dtype in dtypes and x.stride(1) == 1

    def takes_attention(
        self, q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, scales: KVScales | None = None
    ) -> bool:
        """Whether paged_attention can run: heads of even size, a cache of q's dtype or quantised."""
        fits = k_cache.shape[3] == v_cache.shape[3] == q.shape[2] and q.shape[2] % 2 == 0
        return fits and self.takes_heads(q) and is_native(q.dtype, k_cache, v_cache, scales)

    def takes_store(
        self,
        k: torch.Tensor,
        v: torch.Tensor,
        k_cache: torch.Tensor,
        v_cache: torch.Tensor,
        scales: KVScales | None = None,
    ) -> bool:
        """Whether keys and values can be stored as they are."""
        fits = k_cache.shape[3] == v_cache.shape[3] == k.shape[2] and k.dtype == v.dtype
        return fits and self.takes_heads(k) and self.takes_heads(v) and is_native(k.dtype, k_cache, v_cache, scales)

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """See `reference.rms_norm`."""
        dim = x.shape[-1]
        if x.dim() != 2:
            x = x.contiguous()
        out = torch.empty(x.shape, dtype=x.dtype)
        rows = x.numel() // dim
        stride = x.stride(-2) if x.dim() == 2 else dim
        threads = torch.get_num_threads()
        code = DTYPE_CODES[x.dtype]
        status = self._rms_norm(
            code, threads, x.data_ptr(), None, weight.data_ptr(), out.data_ptr(), None, stride, 0, rows, dim, eps
        )
        check("rms_norm", status)
        return out

    def add_rms_norm(
        self, x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `reference.add_rms_norm`; the new residual is written over the old one."""
        rows, dim = x.shape
        out = torch.empty(x.shape, dtype=x.dtype)
        total = residual.data_ptr()
        status = self._rms_norm(
            DTYPE_CODES[x.dtype],
            torch.get_num_threads(),
            x.data_ptr(),
            total,
            weight.data_ptr(),
            out.data_ptr(),
            total,
            x.stride(0),
            dim,
            rows,
            dim,
            eps,
        )
        check("add_rms_norm", status)
        return out, residual

    def apply_rotary(self, q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor, table: torch.Tensor) -> None:
        """See `reference.apply_rotary`."""
        cache = NativeCache(num_heads=k.shape[1], head_dim=k.shape[2], block_size=1)
        status = self._rotary_store(
            DTYPE_CODES[k.dtype],
            torch.get_num_threads(),
            ctypes.byref(cache),
            q.data_ptr(),
            k.data_ptr(),
            None,
            positions.data_ptr(),
            table.data_ptr(),
            None,
            q.stride(0),
            k.stride(0),
            0,
            k.shape[0],
            q.shape[1],
            table.shape[1],
        )
        check("apply_rotary", status)

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
        cache = native_cache(k_cache, v_cache, scales)
        status = self._rotary_store(
            DTYPE_CODES[k.dtype],
            torch.get_num_threads(),
            ctypes.byref(cache),
            None,
            k.data_ptr(),
            v.data_ptr(),
            None,
            None,
            slot_mapping.data_ptr(),
            0,
            k.stride(0),
            v.stride(0),
            k.shape[0],
            0,
            0,
        )
        check("store_kv", status)

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """See `reference.silu_mul`."""
        rows, twice = gate_up.shape
        out = torch.empty((rows, twice // 2), dtype=gate_up.dtype)
        status = self._silu_mul(
            DTYPE_CODES[gate_up.dtype],
            torch.get_num_threads(),
            gate_up.data_ptr(),
            out.data_ptr(),
            gate_up.stride(0),
            rows,
            twice // 2,
        )
        check("silu_mul", status)
        return out

    def argmax(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Largest value and its first index in each row of float32 [R, V]; NaN counts as largest."""
        count, columns = rows.shape
        best, index = torch.empty(count), torch.empty(count, dtype=torch.int64)
        threads = torch.get_num_threads()
        status = self._argmax(
            threads, rows.data_ptr(), rows.stride(0), count, columns, best.data_ptr(), index.data_ptr()
        )
        check("argmax", status)
        return best, index

    def pack(self, weight: torch.Tensor, *, gated: bool = False) -> PanelWeight:
        """Brings a weight [out, in] into panels. gated: it is a gate above another weight, out / 2 rows each."""
        rows, columns = weight.shape
        native = NativeWeight(n=rows, k=columns, group=columns, format=FORMATS["plain"], gated=gated)
        panels = self._panels(native, weight, weight.stride(0) * weight.element_size(), weight.dtype)
        return PanelWeight(native, (panels,), weight.dtype, rows, columns, gated)

    def pack_quantized(self, weight: QuantizedWeight, *, gated: bool = False) -> PanelWeight:
        """The same of a quantised weight.

        Where the processor multiplies integers, int4 weights take rows that are quantised to int8, per group of the
        weight; int8 weights do where they ask for it.
        """
        rows, columns = weight.out_features, weight.in_features
        native = NativeWeight(
            n=rows,
            k=columns,
            group=weight.group_size,
            format=FORMATS[weight.scheme],
            gated=gated,
            int8_rows=weight.activations == "int8",
        )
        data = weight.data.contiguous()
        tensors = [self._panels(native, data, data.stride(0) * data.element_size(), torch.uint8)]
        numbers = {"scales": weight.scales}
        if weight.zeros is not None:
            numbers["zeros"] = weight.zeros.float()
        for name, values in numbers.items():
            ordered = torch.empty(self.library.lepton_num_scales(ctypes.byref(native)))
            kept = values.contiguous()
            self.library.lepton_pack_scales(ctypes.byref(native), kept.data_ptr(), ordered.data_ptr())
            setattr(native, name, ordered.data_ptr())
            tensors.append(ordered)
        if weight.permutation is not None:
            tensors.append(weight.permutation.contiguous())
            native.permutation = tensors[-1].data_ptr()
        return PanelWeight(native, tuple(tensors), None, rows, columns, gated)

    def _panels(self, native: NativeWeight, weight: torch.Tensor, stride: int, dtype: torch.dtype) -> torch.Tensor:
        code = DTYPE_CODES.get(weight.dtype, 0)
        size = self.library.lepton_panel_bytes(code, ctypes.byref(native))
        if size < 0:
            raise RuntimeError(f"no kernel takes a weight of {native.n} x {native.k} in groups of {native.group}")
        panels = torch.empty(size // dtype.itemsize, dtype=dtype)
        status = self.library.lepton_pack_panels(
            code, torch.get_num_threads(), ctypes.byref(native), weight.data_ptr(), panels.data_ptr(), stride
        )
        check("pack_panels", status)
        native.panels = panels.data_ptr()
        return panels

    def gather(self, weight: PanelWeight, ids: torch.Tensor) -> torch.Tensor:
        """Rows of a plain weight: ids int64 [T] -> [T, columns]. RuntimeError if an id is beyond its rows."""
        if weight.dtype is None:
            raise RuntimeError("the rows of a quantised weight are not read")
        ids = ids.contiguous()
        out = torch.empty((ids.shape[0], weight.columns), dtype=weight.dtype)
        status = self.library.lepton_gather_rows(
            DTYPE_CODES[weight.dtype], ctypes.byref(weight.native), ids.data_ptr(), out.data_ptr(), ids.shape[0]
        )
        check("gather_rows", status)
        return out

    def linear(
        self, x: torch.Tensor, weight: PanelWeight, bias: torch.Tensor | None, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """x [T, in] times a weight, plus bias -> [T, out]; what a gated weight makes of it, see `PanelWeight`.

        dtype: of the result, that of x or float32.
        """
        rows = x.shape[0]
        out = torch.empty((rows, weight.outputs), dtype=dtype or x.dtype)
        status = self._linear(
            DTYPE_CODES[x.dtype],
            torch.get_num_threads(),
            ctypes.byref(weight.native),
            x.data_ptr(),
            None if bias is None else bias.data_ptr(),
            None,
            out.data_ptr(),
            x.stride(0),
            rows,
            out.dtype != x.dtype,
        )
        check("linear", status)
        return out

    def paged_attention(
        self,
        q: torch.Tensor,
        k_cache: torch.Tensor,
        v_cache: torch.Tensor,
        batch: BatchContext,
        group: KVGroupBatch,
        scale: float,
        window: int | None,
        scales: KVScales | None = None,
    ) -> torch.Tensor:
        """See `reference.paged_attention`."""
        out = torch.empty(q.shape, dtype=q.dtype)
        cache = native_cache(k_cache, v_cache, scales)
        status = self._attention(
            DTYPE_CODES[q.dtype],
            torch.get_num_threads(),
            ctypes.byref(cache),
            q.data_ptr(),
            out.data_ptr(),
            group.block_table.data_ptr(),
            batch.query_start.data_ptr(),
            batch.seq_lens.data_ptr(),
            q.stride(0),
            group.block_table.stride(0),
            len(batch.query_lens),
            q.shape[1],
            window or 0,
            batch_invariant(),
            scale,
        )
        check("paged_attention", status)
        return out


@functools.cache
def native() -> NativeKernels | None:
    """The kernels of this process, or None where the library is missing or switched off (LEPTON_CPU_KERNELS=0)."""
    lib = library.load()
    return None if lib is None else NativeKernels(lib)


def check(kernel: str, status: int) -> None:
    """Raises what a native call's status stands for: MemoryError, or RuntimeError for an argument that it refused."""
    if status:
        message = f"{kernel}: {_STATUS.get(status, f'status {status}')}"
        raise MemoryError(message) if status == 2 else RuntimeError(message)
