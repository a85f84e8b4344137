"""Mistral: Llama with a sliding window in every layer."""

from lepton_engine.errors import UnsupportedModelError
from lepton_engine.models.base import CausalLM
from lepton_engine.models.decoder import DecoderConfig, DecoderForCausalLM
from lepton_engine.models.llama import common_fields
from lepton_engine.weights.fields import Fields


def build(fields: Fields) -> CausalLM:
    """A `MistralForCausalLM`."""
    if "layer_types" in fields:
        raise UnsupportedModelError("config.json: a Mistral model with layer_types is of another family")
    common = common_fields(fields)
    window = fields.integer("sliding_window") if "sliding_window" in fields else None
    common["windows"] = (window,) * len(common["windows"])
    return DecoderForCausalLM(DecoderConfig(**common))
