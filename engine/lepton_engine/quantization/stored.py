"""The tensors that a checkpoint holds for one quantised module, with what can be wrong about them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch

from lepton_engine.errors import ModelLoadError
from lepton_engine.kernels.quantized import INT4_ZERO, QuantizedWeight


@dataclass(frozen=True)
class StoredModule:
    """One quantised module of a checkpoint.

    Attributes:
        origin: of the checkpoint, for messages. name: the module's, as the checkpoint writes it.
        out_features, in_features: what config.json makes of it.
        has_bias: whether the layer has one. transposed: whether the plain weight is stored as [in, out].
        names: of all tensors that are there. fetch: one of them by name, which counts it as used
            and may be done again.
    """

    origin: str
    name: str
    out_features: int
    in_features: int
    has_bias: bool
    transposed: bool
    names: Collection[str]
    fetch: Callable[[str], torch.Tensor]

    def has(self, suffix: str) -> bool:
        """Whether the tensor is there."""
        return f"{self.name}.{suffix}" in self.names

    def shape_of(self, suffix: str) -> tuple[int, ...]:
        """Of a tensor; empty where it is not there."""
        return tuple(self.fetch(f"{self.name}.{suffix}").shape) if self.has(suffix) else ()

    def skip(self, suffix: str) -> None:
        """Count a tensor as used that says nothing that is needed, where it is there."""
        if self.has(suffix):
            self.fetch(f"{self.name}.{suffix}")

    def take(self, suffix: str, shape: tuple[int, ...], kind: str) -> torch.Tensor:
        """A tensor of that shape.

        Args:
            kind: "floating point", "integer", or the name of a dtype.

        Raises:
            ModelLoadError: it is missing, or of another shape or kind.
        """
        if not self.has(suffix):
            raise self.error(f"tensor {self.name}.{suffix} is missing")
        tensor = self.fetch(f"{self.name}.{suffix}")
        if tuple(tensor.shape) != shape:
            raise self.error(f"tensor {self.name}.{suffix} has shape {list(tensor.shape)}, {list(shape)} is needed")
        floating = tensor.is_floating_point()
        if kind not in (str(tensor.dtype).removeprefix("torch."), "floating point" if floating else "integer"):
            raise self.error(f"tensor {self.name}.{suffix} is of {tensor.dtype}, {kind} is needed")
        return tensor

    def scales(self, suffix: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Scales as float32.

        Raises:
            ModelLoadError: as `take`, or some are infinite or NaN.
        """
        scales = self.take(suffix, shape, "floating point").float()
        if not torch.isfinite(scales).all():
            raise self.error(f"tensor {self.name}.{suffix} has scales that are infinite or NaN")
        return scales

    def group_size(self, size: int, what: str) -> int:
        """The size of a group, -1 being all of the inputs.

        Raises:
            ModelLoadError: it does not divide the inputs.
        """
        size = self.in_features if size == -1 else size
        if size < 1 or self.in_features % size:
            raise self.error(f"{what} is {size}, which does not divide the {self.in_features} inputs of {self.name}")
        return size

    def checked(self, weight: QuantizedWeight, suffix: str) -> QuantizedWeight:
        """The weight, with no scale of zero: a channel or group whose values are all zero takes the scale 1.

        Raises:
            ModelLoadError: a scale of zero has erased values that are not.
        """
        blank = weight.scales == 0
        if not blank.any():
            return weight
        if weight.scheme == "int4":
            zeros = torch.full_like(weight.scales, INT4_ZERO) if weight.zeros is None else weight.zeros
            values = weight.integers().view(*weight.scales.shape, -1)
            used = (values != zeros.unsqueeze(-1)).any(-1)
        else:
            used = (weight.data.float() != 0).any(1, keepdim=True)
        if (blank & used).any():
            count = int((blank & used).sum())
            raise self.error(f"tensor {self.name}.{suffix} has {count} scales of zero over values that are not zero")
        weight.scales[blank] = 1.0
        return weight

    def error(self, message: str) -> ModelLoadError:
        """An error that names the checkpoint."""
        return ModelLoadError(f"{self.origin}: {message}")
