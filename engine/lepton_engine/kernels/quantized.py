"""A quantised weight as the kernels take it: one form, whichever scheme or checkpoint it came from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

INT4_ZERO = 8
"""The zero point of symmetric int4: stored 0..15 stands for -8..7."""

ACTIVATIONS = {"int8": ("int8",), "fp8": ("fp8",), "int4": ()}
"""What activations may be quantised to beside each scheme of the weight."""


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """A weight [out, in] of a linear layer, value = (stored - zero point) * scale.

    Attributes:
        scheme: "int8", "int4" or "fp8".
        data: contiguous. int8: int8 [out, in]. fp8: float8_e4m3fn [out, in]. int4: uint8 [out, in / 2], element 2j
            in the low nibble of byte j, element 2j + 1 in the high one, stored unsigned, 0..15.
        scales: float32, contiguous. int8 and fp8: [out, 1]. int4: [out, in / group_size].
        zeros: int4 alone: zero points as uint8 [out, in / group_size], 0..15; None is symmetric (`INT4_ZERO`).
        permutation: int4 alone: int64 [in]; the stored columns are those of x[:, permutation] (GPTQ's act-order, with
            which the columns of a group are not neighbours); None leaves x as it is.
        activations: what x is quantised to as well, per token, symmetric, when it is computed with: "int8" beside
            int8, "fp8" beside fp8; None computes with x as it is.
    """

    scheme: str
    data: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor | None = None
    permutation: torch.Tensor | None = None
    activations: str | None = None

    def __post_init__(self) -> None:
        if self.scheme not in ACTIVATIONS:
            raise ValueError(f"scheme: {self.scheme!r} is not one of {', '.join(ACTIVATIONS)}")
        if self.activations is not None and self.activations not in ACTIVATIONS[self.scheme]:
            raise ValueError(f"activations: {self.activations!r} do not go with {self.scheme} weights")

    @property
    def out_features(self) -> int:
        """Rows of the weight."""
        return self.data.shape[0]

    @property
    def in_features(self) -> int:
        """Columns of the weight."""
        return self.data.shape[1] * (2 if self.scheme == "int4" else 1)

    @property
    def group_size(self) -> int:
        """Neighbouring columns that share a scale; of int8 and fp8 all."""
        return self.in_features // self.scales.shape[1]

    @property
    def nbytes(self) -> int:
        """Of all its tensors."""
        tensors = (self.data, self.scales, self.zeros, self.permutation)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    def to(self, device: torch.device) -> "QuantizedWeight":
        """The same on a device."""
        return replace(
            self,
            data=self.data.to(device),
            scales=self.scales.to(device),
            zeros=None if self.zeros is None else self.zeros.to(device),
            permutation=None if self.permutation is None else self.permutation.to(device),
        )

    def narrow(self, dim: int, start: int, length: int) -> "QuantizedWeight":
        """The rows (dim 0) or columns (dim 1) from start on; the scales of a channel stay those of the whole.

        Raises:
            ValueError: columns of int4 that cut through a group, or that act-order has mixed.
        """
        if dim == 0:
            zeros = None if self.zeros is None else self.zeros.narrow(0, start, length)
            return replace(
                self, data=self.data.narrow(0, start, length), scales=self.scales.narrow(0, start, length), zeros=zeros
            )
        if self.scheme != "int4":
            return replace(self, data=self.data.narrow(1, start, length).contiguous())
        size = self.group_size
        if self.permutation is not None or start % size or length % size:
            raise ValueError(f"columns {start} to {start + length} cannot be cut from groups of {size}")
        first, count = start // size, length // size
        zeros = None if self.zeros is None else self.zeros.narrow(1, first, count).contiguous()
        data = self.data.narrow(1, start // 2, length // 2).contiguous()
        return replace(self, data=data, scales=self.scales.narrow(1, first, count).contiguous(), zeros=zeros)

    def integers(self) -> torch.Tensor:
        """The stored values of int8 (signed) and int4 (unsigned), one an element, [out, in]."""
        if self.scheme != "int4":
            return self.data
        return torch.stack((self.data & 0xF, self.data >> 4), dim=-1).flatten(-2)

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        """The weight [out, in] in a plain dtype, its columns in the order of x; computed in float32."""
        if self.scheme == "int4":
            grouped = self.integers().view(self.out_features, self.scales.shape[1], -1).float()
            zeros = float(INT4_ZERO) if self.zeros is None else self.zeros.float().unsqueeze(-1)
            weight = ((grouped - zeros) * self.scales.unsqueeze(-1)).flatten(1)
        else:
            weight = self.data.float() * self.scales
        if self.permutation is not None:
            ordered = torch.empty_like(weight)
            ordered[:, self.permutation] = weight
            weight = ordered
        return weight.to(dtype)


def pack_int4(values: torch.Tensor) -> torch.Tensor:
    """Unsigned values 0..15, uint8 [out, in] with even in, two a byte: uint8 [out, in / 2]."""
    return (values[:, 0::2] | (values[:, 1::2] << 4)).contiguous()


def fuse(parts: Sequence[QuantizedWeight]) -> QuantizedWeight | None:
    """Weights of the same input above one another as one; None where their schemes, groups or columns differ."""
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts[1:]:
        if (part.scheme, part.activations, part.group_size) != (first.scheme, first.activations, first.group_size):
            return None
        if not _same(part.permutation, first.permutation):
            return None
    zeros = None
    if any(part.zeros is not None for part in parts):
        symmetric = [torch.full_like(part.scales, INT4_ZERO, dtype=torch.uint8) for part in parts]
        zeros = torch.cat([part.zeros if part.zeros is not None else symmetric[i] for i, part in enumerate(parts)])
    data = torch.cat([part.data.view(torch.uint8) for part in parts]).view(first.data.dtype)
    scales = torch.cat([part.scales for part in parts])
    return replace(first, data=data, scales=scales, zeros=zeros)


def _same(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)
