"""The ranks of a tensor-parallel group. One rank for now; layers and loaders ask here, so that more is no rewrite."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Rank:
    """This process's place among `size` ranks."""

    index: int = 0
    size: int = 1

    def share(self, total: int, what: str) -> int:
        """This rank's part of `total` equal parts.

        Raises:
            ValueError: it does not divide.
        """
        if total % self.size:
            raise ValueError(f"{what}: {total} does not divide among {self.size} ranks")
        return total // self.size

    def shard(self, tensor: torch.Tensor, dim: int) -> torch.Tensor:
        """This rank's slice of a full tensor along a dimension."""
        part = self.share(tensor.shape[dim], f"dimension {dim}")
        return tensor.narrow(dim, self.index * part, part)


SINGLE = Rank()
