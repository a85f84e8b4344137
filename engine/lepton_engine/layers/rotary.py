"""Rotary position embeddings in their published variants.

Su et al. 2021 (arXiv:2104.09864); linear and dynamic scaling as in transformers; llama3 as in Llama 3.1's release;
YaRN, Peng et al. 2023 (arXiv:2309.00071).
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import nn

from lepton_engine.errors import UnsupportedModelError
from lepton_engine.kernels import dispatch


class RopeKind(StrEnum):
    """How frequencies are stretched for contexts longer than those trained on."""

    DEFAULT = "default"
    LINEAR = "linear"
    DYNAMIC = "dynamic"
    LLAMA3 = "llama3"
    YARN = "yarn"


@dataclass(frozen=True)
class RopeConfig:
    """A variant with its numbers; which of them count depends on the kind.

    Attributes:
        dim: of a head's dimensions, those that are rotated. original_max_position: context of the original training.
        attention_factor: scales cosines and sines (YaRN).
    """

    dim: int
    theta: float = 10000.0
    kind: RopeKind = RopeKind.DEFAULT
    factor: float = 1.0
    original_max_position: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float = 1.0


def inverse_frequencies(config: RopeConfig) -> torch.Tensor:
    """float32 [dim / 2], radians per position.

    Every operation is in the reference's order: an error of one unit in the last place, times a position of 100,000,
    turns a head by half a degree.
    """
    exponents = torch.arange(0, config.dim, 2, dtype=torch.int64).to(torch.float32) / config.dim
    periods = config.theta**exponents
    plain = 1.0 / periods
    if config.kind is RopeKind.LINEAR:
        return plain / config.factor
    if config.kind is RopeKind.LLAMA3:
        return _llama3(config, plain)
    if config.kind is RopeKind.YARN:
        return _yarn(config, periods)
    # Dynamic scaling starts beyond the trained context, where no sequence goes (models/rope.py).
    return plain


def _llama3(config: RopeConfig, plain: torch.Tensor) -> torch.Tensor:
    """Long wavelengths are stretched by the factor, short ones stay, those between are blended."""
    wavelength = 2 * math.pi / plain
    blend = (config.original_max_position / wavelength - config.low_freq_factor) / (
        config.high_freq_factor - config.low_freq_factor
    )
    blended = (1 - blend) * plain / config.factor + blend * plain
    long = wavelength > config.original_max_position / config.low_freq_factor
    short = wavelength < config.original_max_position / config.high_freq_factor
    return torch.where(long, plain / config.factor, torch.where(short, plain, blended))


def _yarn(config: RopeConfig, periods: torch.Tensor) -> torch.Tensor:
    """Dimensions that turn often keep their frequency, those that turn seldom are stretched, a ramp lies between."""

    def dimension(rotations: float) -> float:
        turns = config.original_max_position / (rotations * 2 * math.pi)
        return config.dim * math.log(turns) / (2 * math.log(config.theta))

    low, high = dimension(config.beta_fast), dimension(config.beta_slow)
    if config.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, config.dim - 1)
    if low == high:
        high += 0.001
    ramp = ((torch.arange(config.dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    kept = 1 - ramp
    return 1.0 / (config.factor * periods) * (1 - kept) + 1.0 / periods * kept


class Rotary(nn.Module):
    """Rotates queries and keys in place; the table of cosines and sines is shared by all layers.

    Args:
        max_position: rows of the table.
    """

    table: torch.Tensor

    def __init__(self, config: RopeConfig, max_position: int) -> None:
        super().__init__()
        self._config = config
        self._max_position = max_position
        self.table = torch.empty(0)

    def extend(self, max_position: int) -> None:
        """Make the table longer.

        Raises:
            UnsupportedModelError: the angles beyond its end depend on more than their position.
        """
        if self._config.kind is RopeKind.DYNAMIC:
            raise UnsupportedModelError(
                f"dynamic rope: beyond max_position_embeddings, {self._max_position}, "
                "the angles of all tokens depend on the longest sequence of the batch"
            )
        self._max_position = max_position
        self.build(self.table.device)

    def build(self, device: torch.device) -> None:
        """Compute the table: float32 [max_position, dim], cosines first."""
        angles = torch.outer(torch.arange(self._max_position, dtype=torch.float32), inverse_frequencies(self._config))
        self.table = (torch.cat((angles.cos(), angles.sin()), dim=-1) * self._config.attention_factor).to(device)

    def forward(self, q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor) -> None:
        """q [T, Hq, D] and k [T, Hk, D] at positions int64 [T]."""
        dispatch.apply_rotary(q, k, positions, self.table)
