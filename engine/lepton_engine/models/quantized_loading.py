"""Fills the layers of a model whose weights are quantised, in the checkpoint or while they are loaded."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from lepton_engine.errors import ModelLoadError
from lepton_engine.kernels.quantized import QuantizedWeight, fuse
from lepton_engine.layers.linear import Quantizable, WeightSlot
from lepton_engine.layers.vocabulary import Vocabulary
from lepton_engine.quantization.device import suited
from lepton_engine.quantization.on_load import HEAD, QuantizeOnLoad
from lepton_engine.quantization.reader import WeightReader
from lepton_engine.quantization.stored import StoredModule

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer with at least one quantised part.

    Attributes:
        parts: the checkpoint's names of its weights, first to last, and their slots. quantized: which are quantised.
    """

    layer: Quantizable
    parts: Mapping[str, WeightSlot]
    quantized: frozenset[str]


def find_quantized(reader: WeightReader, slots: Mapping[str, WeightSlot]) -> list[QuantizedLayer]:
    """The layers of a model that the reader has quantised weights for.

    Raises:
        ModelLoadError: as `WeightReader.reads`.
    """
    layers: dict[int, list[str]] = {}
    for name, slot in slots.items():
        if slot.layer is not None and name.endswith(".weight"):
            layers.setdefault(id(slot.layer), []).append(name)
    found = []
    for names in layers.values():
        quantized = frozenset(name for name in names if reader.reads(name.removesuffix(".weight")))
        layer = slots[names[0]].layer
        if quantized and layer is not None:
            found.append(QuantizedLayer(layer, {name: slots[name] for name in names}, quantized))
    return found


@dataclass(frozen=True)
class QuantizedLoader:
    """Reads the weights of quantised layers.

    Attributes:
        names: of all tensors of the checkpoint, as the model calls them. fetch: a tensor by such a name, which counts
            it as used. biases: names of the biases that the model has.
    """

    origin: str
    reader: WeightReader
    names: frozenset[str]
    fetch: Callable[[str], torch.Tensor]
    biases: frozenset[str]
    dtype: torch.dtype
    device: torch.device

    def fill(self, found: QuantizedLayer) -> None:
        """Read a layer's weight; it is kept plain where its parts are quantised in ways that differ.

        Raises:
            ModelLoadError: tensors are missing, of the wrong shape or hold impossible values; the message names them.
        """
        parts = [self._read(name, slot, name in found.quantized) for name, slot in found.parts.items()]
        quantized = [part for part in parts if isinstance(part, QuantizedWeight)]
        fused = fuse(quantized) if len(quantized) == len(parts) else None
        if fused is not None:
            found.layer.adopt(suited(fused, self.device))
            return
        logger.info("%s: kept as %s, no kernel takes it as it is quantised", ", ".join(found.parts), self.dtype)
        plain = [part.dequantize(self.dtype) if isinstance(part, QuantizedWeight) else part for part in parts]
        found.layer.adopt(torch.cat([part.to(self.dtype) for part in plain]).to(self.device))

    def fill_tied_head(self, vocabulary: Vocabulary, scheme_reader: QuantizeOnLoad) -> None:
        """Give the output layer of tied weights a quantised copy of the embedding, which is loaded already."""
        embedding = vocabulary.embedding
        if not isinstance(embedding, torch.Tensor):
            raise TypeError("the embedding has been replaced already")
        module = self._module(HEAD, WeightSlot(embedding))
        vocabulary.adopt(suited(scheme_reader.quantize(module, embedding), self.device))

    def _read(self, name: str, slot: WeightSlot, quantized: bool) -> QuantizedWeight | torch.Tensor:
        """This rank's part of a weight, [out, in]."""
        if not quantized:
            return self._share(self._plain(name, slot), slot)
        return self._share(self.reader.read(self._module(name.removesuffix(".weight"), slot)), slot)

    def _plain(self, name: str, slot: WeightSlot) -> torch.Tensor:
        shape = slot.expected_shape()
        module = self._module(name.removesuffix(".weight"), slot)
        stored = module.take("weight", shape, "floating point")
        return stored.t() if slot.transposed else stored

    def _share(self, whole: QuantizedWeight | torch.Tensor, slot: WeightSlot) -> QuantizedWeight | torch.Tensor:
        if slot.shard_dim is None or slot.rank.size == 1:
            return whole
        dim = slot.shard_dim
        if isinstance(whole, torch.Tensor):
            return slot.rank.shard(whole, dim)
        length = (whole.out_features, whole.in_features)[dim] // slot.rank.size
        try:
            return whole.narrow(dim, slot.rank.index * length, length)
        except ValueError as error:
            raise ModelLoadError(f"{self.origin}: {slot.rank.size} ranks cannot share a weight: {error}") from error

    def _module(self, name: str, slot: WeightSlot) -> StoredModule:
        shape = slot.expected_shape()
        rows, columns = reversed(shape) if slot.transposed else shape
        return StoredModule(
            self.origin,
            name,
            rows,
            columns,
            has_bias=f"{name}.bias" in self.biases,
            transposed=slot.transposed,
            names=self.names,
            fetch=self.fetch,
        )
