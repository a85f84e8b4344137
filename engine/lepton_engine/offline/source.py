"""A plain checkpoint that another is made from."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from lepton_engine.errors import InvalidRequestError, ModelLoadError, UnsupportedModelError
from lepton_engine.models.base import CausalLM
from lepton_engine.models.registry import build_model
from lepton_engine.weights.checkpoint import Checkpoint, open_checkpoint
from lepton_engine.weights.locate import locate_checkpoint

Progress = Callable[[int, int, str], None]
"""Called with the tensors done, all of them, and the name of the next one, before each and at the end."""


@dataclass(frozen=True)
class Source:
    """A folder with a plain checkpoint of a family that stores its weights as [out, in].

    Attributes:
        model: built from the configuration, without weights.
    """

    folder: Path
    checkpoint: Checkpoint
    model: CausalLM

    def linear_weights(self) -> set[str]:
        """Names of the weights of linear layers, without the output layer's."""
        slots = self.model.weight_slots()
        return {
            name
            for name, slot in slots.items()
            if slot.layer is not None and slot.layer is not self.model.vocabulary and name.endswith(".weight")
        }

    def tensors(self, progress: Progress) -> Iterator[tuple[str, torch.Tensor]]:
        """All tensors that the model uses, one at a time.

        Raises:
            ModelLoadError: one is missing, left over or damaged.
        """
        names = self.checkpoint.names()
        wanted = self.model.weight_slots()
        missing = sorted(set(wanted) - names)
        if missing:
            raise ModelLoadError(f"{self.folder}: tensors are missing: {', '.join(missing[:4])}")
        for done, (name, slot) in enumerate(wanted.items()):
            progress(done, len(wanted), name)
            tensor = self.checkpoint.tensor(name)
            if tuple(tensor.shape) != slot.expected_shape():
                raise ModelLoadError(
                    f"{self.folder}: tensor {name} has shape {list(tensor.shape)}, "
                    f"config.json asks for {list(slot.expected_shape())}"
                )
            yield name, tensor
        progress(len(wanted), len(wanted), "")


def open_source(model: str | os.PathLike[str]) -> Source:
    """The checkpoint in a folder, or of an id in the local Hugging Face cache.

    Raises:
        ModelLoadError: it is missing or damaged. UnsupportedModelError: its family is not known, or stores weights as
            [in, out], for which the formats of quantised checkpoints have no form.
        InvalidRequestError: it is quantised already.
    """
    folder = locate_checkpoint(model)
    checkpoint = open_checkpoint(folder)
    own = checkpoint.config.get("quantization_config")
    if own:
        method = own.get("quant_method") if isinstance(own, dict) else own
        raise InvalidRequestError("source", f"{str(folder)!r} is quantised already ({method}); a plain one is needed")
    with torch.device("meta"):
        built = build_model(checkpoint.config)
    if any(slot.transposed for slot in built.weight_slots().values()):
        raise UnsupportedModelError(
            f"config.json: model_type is {checkpoint.model_type!r}, which stores weights as [in, out]; "
            "quantise it while it is loaded instead"
        )
    return Source(folder, checkpoint, built)
