"""Weights in the panels that the native products read; see src/args.h for their layout."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class PanelWeight:
    """A weight [rows, columns] in panels.

    Attributes:
        panels: its elements, rows filled up to whole panels; of the weight's dtype.
        gated: whether it is a gate above another weight, rows / 2 each, whose product is silu(gate) * other.
    """

    panels: torch.Tensor
    rows: int
    columns: int
    gated: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """Of the elements."""
        return self.panels.dtype

    @property
    def outputs(self) -> int:
        """Columns of the product."""
        return self.rows // 2 if self.gated else self.rows

    def numel(self) -> int:
        """Elements of the weight itself."""
        return self.rows * self.columns
