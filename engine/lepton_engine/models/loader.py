"""Fills a model with a checkpoint's weights, one tensor at a time."""

import torch
from torch import nn

from lepton_engine.errors import ModelLoadError
from lepton_engine.models.base import CausalLM
from lepton_engine.models.registry import build_model
from lepton_engine.weights.checkpoint import Checkpoint


def load_model(checkpoint: Checkpoint, *, dtype: torch.dtype, device: torch.device) -> CausalLM:
    """The checkpoint's model with its weights in dtype on device.

    Peak memory is that of the model and of one stored tensor.

    Raises:
        UnsupportedModelError: the model cannot be run faithfully.
        ModelLoadError: tensors are missing, left over or of the wrong shape; the message names them.
    """
    with torch.device("meta"):
        model = build_model(checkpoint.config)
    _materialise(model, dtype, device)
    slots = model.weight_slots()
    stored = checkpoint.names()
    # The original GPT-2 files leave the outer module's name out.
    prefix = "" if any(name in stored for name in slots) else next(iter(slots)).partition(".")[0] + "."
    left = {prefix + name if prefix and not name.startswith("lm_head.") else name: name for name in stored}
    missing = [name for name in slots if name not in left]
    if missing:
        raise ModelLoadError(f"{checkpoint.origin}: tensors are missing: {_some(missing)}")
    with torch.inference_mode():
        for name, slot in slots.items():
            tensor = checkpoint.tensor(left.pop(name))
            if tuple(tensor.shape) != slot.expected_shape():
                raise ModelLoadError(
                    f"{checkpoint.origin}: tensor {name} has shape {list(tensor.shape)}, "
                    f"config.json asks for {list(slot.expected_shape())}"
                )
            if not tensor.is_floating_point():
                raise ModelLoadError(f"{checkpoint.origin}: tensor {name} is of {tensor.dtype}, not floating point")
            slot.fill(tensor)
    extra = [name for name in left if not model.ignores(name)]
    if extra:
        raise ModelLoadError(f"{checkpoint.origin}: tensors have no place in the model: {_some(extra)}")
    model.build_tables(device)
    model.pack()
    return model


def _materialise(model: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Give parameters without storage one. `Module.to_empty` would import sympy for it, a second of start-up."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            storage = torch.empty(parameter.shape, dtype=dtype, device=device)
            setattr(module, name, nn.Parameter(storage, requires_grad=False))


def _some(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
