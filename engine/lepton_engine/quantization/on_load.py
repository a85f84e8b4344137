"""Quantises the weights of a plain checkpoint while it is loaded."""

from dataclasses import dataclass

import torch

from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.quantization.rounding import UnquantizableError, quantize_weight
from lepton_engine.quantization.scheme import Scheme
from lepton_engine.quantization.stored import StoredModule

HEAD = "lm_head"


@dataclass(frozen=True)
class QuantizeOnLoad:
    """A `WeightReader` over plain weights.

    Attributes:
        search: see `quantize_weight`.
    """

    scheme: Scheme
    search: bool = False

    def reads(self, module: str) -> bool:
        """See `WeightReader.reads`: all linear layers, the output layer where the scheme says so."""
        return self.scheme.head if module == HEAD else True

    def ignores(self, name: str) -> bool:
        """See `WeightReader.ignores`: nothing."""
        return False

    def read(self, module: StoredModule) -> QuantizedWeight:
        """See `WeightReader.read`."""
        shape = (module.out_features, module.in_features)
        stored = module.take("weight", shape[::-1] if module.transposed else shape, "floating point")
        return self.quantize(module, stored.t() if module.transposed else stored)

    def quantize(self, module: StoredModule, weight: torch.Tensor) -> QuantizedWeight:
        """A plain weight [out, in], quantised.

        Raises:
            ModelLoadError: it has no quantised form.
        """
        scheme = self.scheme.for_head if module.name == HEAD else self.scheme
        try:
            return quantize_weight(weight.contiguous(), scheme, search=self.search)
        except UnquantizableError as error:
            raise module.error(f"tensor {module.name}.weight cannot be quantised to {scheme.name}: {error}") from error
