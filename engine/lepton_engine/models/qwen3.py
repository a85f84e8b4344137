"""Qwen3: Qwen2 without the biases, with norms on queries and keys and a head_dim of its own."""

from lepton_engine.models.base import CausalLM
from lepton_engine.models.decoder import DecoderConfig, DecoderForCausalLM
from lepton_engine.models.llama import common_fields
from lepton_engine.models.qwen2 import read_windows
from lepton_engine.weights.fields import Fields


def build(fields: Fields) -> CausalLM:
    """A `Qwen3ForCausalLM`."""
    common = common_fields(fields, head_dim=128)
    common["windows"] = read_windows(fields, len(common["windows"]))
    bias = fields.boolean("attention_bias", False)
    return DecoderForCausalLM(DecoderConfig(**common, qkv_bias=bias, output_bias=bias, qk_norm=True))
