"""Weights in the panels that the native products read; see src/args.h for their layout."""

import ctypes
from dataclasses import dataclass

import torch

FORMATS = {"plain": 0, "int8": 1, "int4": 2, "fp8": 3}
"""How elements are stored, as the C ABI numbers it."""


class NativeWeight(ctypes.Structure):
    """`LinearWeight` of src/args.h."""

    _fields_ = (
        ("panels", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("zeros", ctypes.c_void_p),
        ("permutation", ctypes.c_void_p),
        ("n", ctypes.c_int64),
        ("k", ctypes.c_int64),
        ("group", ctypes.c_int64),
        ("format", ctypes.c_int32),
        ("gated", ctypes.c_int32),
        ("int8_rows", ctypes.c_int32),
    )


@dataclass(frozen=True, eq=False)
class PanelWeight:
    """A weight [rows, columns] in panels.

    Attributes:
        native: what the kernels are handed; it points to the tensors. tensors: its panels, then what else it points to.
        dtype: of plain elements, which multiply rows of the same dtype alone; None for quantised ones, which take any.
        gated: whether it is a gate above another weight, rows / 2 each, whose product is silu(gate) * other.
    """

    native: NativeWeight
    tensors: tuple[torch.Tensor, ...]
    dtype: torch.dtype | None
    rows: int
    columns: int
    gated: bool

    @property
    def outputs(self) -> int:
        """Columns of the product."""
        return self.rows // 2 if self.gated else self.rows

    def numel(self) -> int:
        """Elements of the weight itself."""
        return self.rows * self.columns

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)
