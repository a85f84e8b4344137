"""Which family a checkpoint is of."""

from collections.abc import Callable, Mapping
from typing import Any

from lepton_engine.errors import ModelLoadError, UnsupportedModelError
from lepton_engine.models import gpt2, llama, mistral, qwen2, qwen3
from lepton_engine.models.base import CausalLM
from lepton_engine.weights.fields import Fields

FAMILIES: dict[str, tuple[str, Callable[[Fields], CausalLM]]] = {
    "llama": ("LlamaForCausalLM", llama.build),
    "mistral": ("MistralForCausalLM", mistral.build),
    "qwen2": ("Qwen2ForCausalLM", qwen2.build),
    "qwen3": ("Qwen3ForCausalLM", qwen3.build),
    "gpt2": ("GPT2LMHeadModel", gpt2.build),
}

# What changes the arithmetic of relatives of these families and that no family here computes. A value that is null,
# false or neutral changes nothing.
UNBUILT = {
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "attention_sink": None,
    "attention_sinks": None,
    "attention_chunk_size": None,
    "no_rope_layers": None,
    "rope_interleaved": None,
    "alibi": None,
    "clip_qkv": None,
    "logit_scale": 1.0,
    "logits_scaling": 1.0,
    "embedding_multiplier": 1.0,
    "residual_multiplier": 1.0,
    "attention_multiplier": None,
    "num_experts": None,
    "num_local_experts": None,
}


def build_model(config: Mapping[str, Any]) -> CausalLM:
    """The model that a config.json describes, its parameters not yet filled.

    Raises:
        UnsupportedModelError: the family is unknown, or the model asks for what the family's file does not build.
        ModelLoadError: a field is missing or has the wrong type.
    """
    fields = Fields(config)
    named = config.get("architectures") or []
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise ModelLoadError(f"config.json: architectures is {named!r}, a list of names is needed")
    model_type = fields.text("model_type", next((t for t, (name, _) in FAMILIES.items() if name in named), None))
    if model_type not in FAMILIES:
        raise UnsupportedModelError(
            f"config.json: model_type is {model_type!r}, known are {', '.join(sorted(FAMILIES))}"
        )
    architecture, build = FAMILIES[model_type]
    if named and architecture not in named:
        raise UnsupportedModelError(f"config.json: architectures is {named!r}, {architecture} is needed")
    for name, neutral in UNBUILT.items():
        value = config.get(name)
        if value and value != neutral:
            raise UnsupportedModelError(f"config.json: {name} is {value!r}, the {model_type} family here ignores it")
    return build(fields)
