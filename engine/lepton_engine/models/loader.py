"""Fills a model with a checkpoint's weights, one tensor at a time."""

from collections.abc import Collection

import torch
from torch import nn

from lepton_engine.errors import ModelLoadError
from lepton_engine.models.base import CausalLM
from lepton_engine.models.quantized_loading import QuantizedLoader, find_quantized
from lepton_engine.models.registry import build_model
from lepton_engine.quantization.device import check_device
from lepton_engine.quantization.on_load import QuantizeOnLoad
from lepton_engine.quantization.scheme import Scheme
from lepton_engine.quantization.source import open_reader
from lepton_engine.weights.checkpoint import Checkpoint


def load_model(
    checkpoint: Checkpoint, *, dtype: torch.dtype, device: torch.device, quantization: Scheme | None = None
) -> CausalLM:
    """The checkpoint's model with its weights on device: in dtype, or quantised as the checkpoint has them.

    Peak memory is that of the model and of one layer's stored tensors.

    Args:
        quantization: how the weights of a plain checkpoint are quantised while they are loaded; None leaves them.

    Raises:
        UnsupportedModelError: the model cannot be run faithfully.
        ModelLoadError: tensors are missing, left over, of the wrong shape or hold impossible values; the message
            names them.
        InvalidRequestError: quantization does not go with the checkpoint or the device.
    """
    config = {name: value for name, value in checkpoint.config.items() if name != "quantization_config"}
    with torch.device("meta"):
        model = build_model(config)
    slots = model.weight_slots()
    stored = checkpoint.names()
    # The original GPT-2 files leave the outer module's name out.
    prefix = "" if any(name in stored for name in slots) else next(iter(slots)).partition(".")[0] + "."
    names = {prefix + name if prefix and not name.startswith("lm_head.") else name: name for name in stored}
    left = dict(names)

    def fetch(name: str) -> torch.Tensor:
        left.pop(name, None)
        return checkpoint.tensor(names[name])

    reader = open_reader(checkpoint.config, names, quantization)
    if quantization is not None:
        check_device(quantization, device)
    quantized = [] if reader is None else find_quantized(reader, slots)
    _materialise(model, dtype, device, {(found.layer, found.layer.adopted) for found in quantized})
    plain = {name: slot for name, slot in model.weight_slots().items() if not any(name in q.parts for q in quantized)}
    missing = [name for name in plain if name not in names]
    if missing:
        raise ModelLoadError(f"{checkpoint.origin}: tensors are missing: {_some(missing)}")
    with torch.inference_mode():
        for name, slot in plain.items():
            tensor = fetch(name)
            if tuple(tensor.shape) != slot.expected_shape():
                raise ModelLoadError(
                    f"{checkpoint.origin}: tensor {name} has shape {list(tensor.shape)}, "
                    f"config.json asks for {list(slot.expected_shape())}"
                )
            if not tensor.is_floating_point():
                raise ModelLoadError(f"{checkpoint.origin}: tensor {name} is of {tensor.dtype}, not floating point")
            slot.fill(tensor)
        if reader is not None:
            biases = frozenset(name for name in slots if name.endswith(".bias"))
            loader = QuantizedLoader(checkpoint.origin, reader, frozenset(names), fetch, biases, dtype, device)
            for found in quantized:
                loader.fill(found)
            if isinstance(reader, QuantizeOnLoad) and reader.scheme.head and model.vocabulary.tied:
                loader.fill_tied_head(model.vocabulary, reader)
    extra = [name for name in left if not model.ignores(name) and not (reader is not None and reader.ignores(name))]
    if extra:
        raise ModelLoadError(f"{checkpoint.origin}: tensors have no place in the model: {_some(extra)}")
    if checkpoint.pruned_two_of_four:
        model.sparsify()
    model.build_tables(device)
    model.pack()
    return model


def _materialise(
    model: nn.Module, dtype: torch.dtype, device: torch.device, skipped: Collection[tuple[object, str]]
) -> None:
    """Give parameters without storage one, but for those skipped, by module and name.

    `Module.to_empty` would import sympy for it, a second of start-up.
    """
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if (module, name) in skipped:
                continue
            storage = torch.empty(parameter.shape, dtype=dtype, device=device)
            setattr(module, name, nn.Parameter(storage, requires_grad=False))


def _some(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
