"""Normalisation layers."""

import torch
from torch import nn
from torch.nn import functional

from lepton_engine.kernels import dispatch
from lepton_engine.layers.linear import WeightSlot


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang and Sennrich 2019), computed in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size), requires_grad=False)
        self.eps = eps

    def slots(self, name: str) -> dict[str, WeightSlot]:
        """The slot of the weight, under the checkpoint's name of the module."""
        return {f"{name}.weight": WeightSlot(self.weight)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., size] -> the same."""
        return dispatch.rms_norm(x, self.weight, self.eps)

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Norm of x + residual, and that sum; the residual passed in may be overwritten."""
        return dispatch.add_rms_norm(x, residual, self.weight, self.eps)


class LayerNorm(nn.Module):
    """Layer norm with weight and bias (Ba et al. 2016)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(size), requires_grad=False)
        self.eps = eps

    def slots(self, name: str) -> dict[str, WeightSlot]:
        """Slots of weight and bias, under the checkpoint's name of the module."""
        return {f"{name}.weight": WeightSlot(self.weight), f"{name}.bias": WeightSlot(self.bias)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., size] -> the same."""
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
