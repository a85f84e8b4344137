"""Linear layers that know how they are divided among tensor-parallel ranks."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch
from torch import nn

from lepton_engine.distributed import SINGLE, Rank
from lepton_engine.kernels import dispatch
from lepton_engine.kernels.cpu.panels import PanelWeight
from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.kernels.sparse import SparseWeight, sparsify


class Parallel(Enum):
    """How a weight [out, in] is divided: not at all, by its outputs, or by its inputs (the outputs are then summed)."""

    REPLICATED = "replicated"
    COLUMN = "column"
    ROW = "row"


class Quantizable(Protocol):
    """A layer whose weight may be quantised.

    Attributes:
        adopted: name of the parameter that `adopt` replaces.
    """

    adopted: str

    def adopt(self, weight: QuantizedWeight | torch.Tensor) -> None:
        """Take a whole weight, all parts above one another, instead of the parameter that slots fill."""


@dataclass(frozen=True)
class WeightSlot:
    """Where a checkpoint's tensor goes.

    Attributes:
        target: a view of a parameter, this rank's part. shard_dim: of the stored tensor; None is not divided.
        transposed: whether the checkpoint stores it as [in, out].
        layer: the layer whose weight this is a part of, where that may be quantised.
    """

    target: torch.Tensor
    shard_dim: int | None = None
    transposed: bool = False
    rank: Rank = SINGLE
    layer: Quantizable | None = None

    def expected_shape(self) -> tuple[int, ...]:
        """Of the stored tensor, all ranks together."""
        shape = list(self.target.shape)
        if self.shard_dim is not None:
            shape[self.shard_dim] *= self.rank.size
        return tuple(reversed(shape)) if self.transposed else tuple(shape)

    def fill(self, stored: torch.Tensor) -> None:
        """Copy a stored tensor of the expected shape in, converted to the target's dtype and device."""
        tensor = stored.t() if self.transposed else stored
        if self.shard_dim is not None:
            tensor = self.rank.shard(tensor, self.shard_dim)
        self.target.copy_(tensor)


class Linear(nn.Module):
    """y = x W^T + b, where W is several stored weights, one above the other, that share their input.

    Args:
        in_features: of all ranks together. parts: outputs of each stored weight, of all ranks together.
        parallel: how ranks divide it. transposed: whether checkpoints store the weights as [in, out].
    """

    def __init__(
        self,
        in_features: int,
        parts: Sequence[int],
        *,
        bias: bool,
        parallel: Parallel = Parallel.REPLICATED,
        transposed: bool = False,
        rank: Rank = SINGLE,
    ) -> None:
        super().__init__()
        self.adopted = "weight"
        self.parallel = parallel
        self.rank = rank
        self._transposed = transposed
        column = rank if parallel is Parallel.COLUMN else SINGLE
        row = rank if parallel is Parallel.ROW else SINGLE
        self.parts = [column.share(part, "outputs") for part in parts]
        weight = torch.empty(sum(self.parts), row.share(in_features, "inputs"))
        self.weight: torch.Tensor | PanelWeight | QuantizedWeight | SparseWeight = nn.Parameter(
            weight, requires_grad=False
        )
        self.bias = nn.Parameter(torch.empty(sum(self.parts)), requires_grad=False) if bias else None

    def slots(self, names: Sequence[str]) -> dict[str, WeightSlot]:
        """Slots of the parts' weights and biases, under the checkpoint's names of the modules."""
        if not isinstance(self.weight, torch.Tensor):
            raise RuntimeError("the weight has been replaced already")
        column = self.parallel is Parallel.COLUMN
        found = {}
        start = 0
        for name, part in zip(names, self.parts, strict=True):
            shard_dim = 0 if column else 1 if self.parallel is Parallel.ROW else None
            view = self.weight[start : start + part]
            found[f"{name}.weight"] = WeightSlot(view, shard_dim, self._transposed, self.rank, self)
            if self.bias is not None:
                view = self.bias[start : start + part]
                found[f"{name}.bias"] = WeightSlot(view, 0 if column else None, rank=self.rank)
            start += part
        return found

    def adopt(self, weight: QuantizedWeight | torch.Tensor) -> None:
        """See `Quantizable.adopt`; the weight is this rank's."""
        del self.weight
        self.weight = nn.Parameter(weight, requires_grad=False) if isinstance(weight, torch.Tensor) else weight

    def sparsify(self) -> None:
        """Let the device skip the zeros of a weight that is pruned 2:4, where it has products for that."""
        sparse = sparsify(self.weight) if isinstance(self.weight, torch.Tensor) else None
        if sparse is not None:
            del self.weight
            self.weight = sparse

    def pack(self, *, gated: bool = False) -> None:
        """Bring the weight into the form that products are fastest with on this machine; it can't be filled again.

        gated: see `dispatch.pack`; `self.weight.gated` tells whether it came to that.
        """
        if isinstance(self.weight, PanelWeight | SparseWeight):
            return
        packed = dispatch.pack(self.weight, gated=gated)
        if packed is not None:
            del self.weight
            self.weight = packed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[T, in] -> [T, out]; with a packed gate, its product."""
        return dispatch.linear(x, self.weight, self.bias)
