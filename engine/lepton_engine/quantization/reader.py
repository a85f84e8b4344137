"""What the loader asks of every source of quantised weights."""

from typing import Protocol

import torch

from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.quantization.stored import StoredModule


class WeightReader(Protocol):
    """Reads, or makes, the quantised weights of a checkpoint's modules."""

    def reads(self, module: str) -> bool:
        """Whether the module of that name has a quantised weight; the plain ones are read as usual."""

    def ignores(self, name: str) -> bool:
        """Whether a stored tensor that belongs to no layer has no meaning here."""

    def read(self, module: StoredModule) -> QuantizedWeight | torch.Tensor:
        """The module's weight; a plain one [out, in] where it is stored in a form that no kernel takes.

        Raises:
            ModelLoadError: tensors are missing, of the wrong shape or hold impossible values; the message names them.
        """
