"""Which family a checkpoint is of."""

from collections.abc import Callable, Mapping
from typing import Any

from lepton_engine.errors import UnsupportedModelError
from lepton_engine.models import gpt2, llama, mistral, qwen2, qwen3
from lepton_engine.models.base import CausalLM
from lepton_engine.models.fields import Fields

FAMILIES: dict[str, tuple[str, Callable[[Fields], CausalLM]]] = {
    "llama": ("LlamaForCausalLM", llama.build),
    "mistral": ("MistralForCausalLM", mistral.build),
    "qwen2": ("Qwen2ForCausalLM", qwen2.build),
    "qwen3": ("Qwen3ForCausalLM", qwen3.build),
    "gpt2": ("GPT2LMHeadModel", gpt2.build),
}


def build_model(config: Mapping[str, Any]) -> CausalLM:
    """The model that a config.json describes, its parameters not yet filled.

    Raises:
        UnsupportedModelError: the family is unknown, or the model asks for what the family's file does not build.
        ModelLoadError: a field is missing or has the wrong type.
    """
    fields = Fields(config)
    model_type = fields.text("model_type")
    if model_type not in FAMILIES:
        raise UnsupportedModelError(
            f"config.json: model_type is {model_type!r}, known are {', '.join(sorted(FAMILIES))}"
        )
    architecture, build = FAMILIES[model_type]
    named = config.get("architectures")
    if named and architecture not in named:
        raise UnsupportedModelError(f"config.json: architectures is {named!r}, {architecture} is needed")
    if config.get("quantization_config") is not None:
        raise UnsupportedModelError("config.json: quantization_config: quantised checkpoints are not supported yet")
    return build(fields)
