"""Weights of which two of every four neighbours are zero, on devices that skip the zeros (Mishra et al. 2021)."""

import logging
from dataclasses import dataclass

import torch
from torch.nn import functional

logger = logging.getLogger(__name__)

CAPABILITY = (8, 0)
"""The least compute capability of CUDA devices with sparse products."""
MULTIPLE = 64
"""Of the rows and columns that all of torch's backends take."""


@dataclass(frozen=True, eq=False)
class SparseWeight:
    """A weight [out, in] in the form of torch's semi-structured sparse products: half the values, and their places.

    Attributes:
        tensor: of torch's subclass for it. nbytes: what it takes.
    """

    tensor: torch.Tensor
    out_features: int
    in_features: int
    nbytes: int

    def linear(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """x [T, in] times the weight transposed, plus bias [out] -> [T, out]."""
        return functional.linear(x, self.tensor, bias)


def is_two_of_four(weight: torch.Tensor) -> bool:
    """Whether of every four neighbours along the inputs of a weight [out, in] two at most are not zero."""
    return weight.shape[1] % 4 == 0 and bool(((weight.view(weight.shape[0], -1, 4) != 0).sum(-1) <= 2).all())


def has_sparse_products(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device multiplies by sparse weights of a dtype."""
    return (
        device.type == "cuda"
        and dtype in (torch.bfloat16, torch.float16)
        and torch.cuda.get_device_capability(device) >= CAPABILITY
    )


def sparsify(weight: torch.Tensor) -> SparseWeight | None:
    """The sparse form of a weight [out, in]; None where the device, the dtype, the shape or the values have none."""
    rows, columns = weight.shape
    if not has_sparse_products(weight.device, weight.dtype) or rows % MULTIPLE or columns % MULTIPLE:
        return None
    if not is_two_of_four(weight):
        return None
    try:
        made: torch.Tensor = torch.sparse.to_sparse_semi_structured(weight)
    except (RuntimeError, NotImplementedError) as error:
        logger.warning("2:4 weights are computed with as dense ones, torch has no sparse form here: %s", error)
        return None
    # Half the values, and two bits for the place of each.
    return SparseWeight(made, rows, columns, weight.nbytes // 2 + weight.numel() // 8)
