"""Checkpoints that packages other than the installed ones have written (files/make.py), against what those compute."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.models.loader import load_model
from lepton_engine.quantization.source import open_reader
from lepton_engine.weights.checkpoint import open_checkpoint

FILES = Path(__file__).parent / "files"
NAMES = ["awq", "gptq", "gptq-act-order", "compressed-tensors-act-order"]
IDS = [3, 17, 44, 9, 60, 2, 31, 17]


@pytest.mark.parametrize("name", NAMES)
def test_values_are_the_packages(name: str, module_of: Callable[..., Any]) -> None:
    checkpoint = open_checkpoint(FILES / name)
    reader = open_reader(checkpoint.config, checkpoint.names(), None)
    assert reader is not None
    assert not reader.reads("lm_head")
    expected = load_file(FILES / name / "values.safetensors")
    assert len(expected) == 7
    for key, weight in expected.items():
        module = key.removesuffix(".weight")
        assert reader.reads(module)
        read = reader.read(module_of(checkpoint, module, tuple(weight.shape)))
        assert isinstance(read, QuantizedWeight)
        assert (read.permutation is not None) == name.endswith("act-order")
        # The packages round each value to float16.
        assert torch.equal(read.dequantize(torch.float32).half(), weight)


@pytest.mark.usefixtures("unpacked")
@pytest.mark.parametrize("name", NAMES)
def test_whole_models(name: str, logits_of: Callable[..., torch.Tensor]) -> None:
    stored = load_file(FILES / name / "model.safetensors")
    plain = {key: tensor for key, tensor in stored.items() if key.endswith(".weight")}
    config = transformers.AutoConfig.from_pretrained(FILES / name)
    del config.quantization_config
    module: Any = transformers.LlamaForCausalLM(config)
    module.float().eval()
    values = plain | load_file(FILES / name / "values.safetensors")
    module.load_state_dict({key: tensor.float() for key, tensor in values.items()})
    with torch.no_grad():
        expected = module(torch.tensor([IDS])).logits[0]
    model = load_model(open_checkpoint(FILES / name), dtype=torch.float32, device=torch.device("cpu"))
    torch.testing.assert_close(logits_of(model, IDS), expected, rtol=5e-3, atol=5e-3)
