"""Qwen2 and Qwen2.5: Llama with biases on queries, keys and values, and layers that may slide."""

from lepton_engine.errors import UnsupportedModelError
from lepton_engine.models.base import CausalLM
from lepton_engine.models.decoder import DecoderConfig, DecoderForCausalLM
from lepton_engine.models.llama import common_fields
from lepton_engine.weights.fields import Fields

LAYER_TYPES = ("full_attention", "sliding_attention")


def read_windows(fields: Fields, num_layers: int) -> tuple[int | None, ...]:
    """Per layer its window: by `layer_types` (transformers 5), or from `max_window_layers` on (transformers 4)."""
    window = fields.integer("sliding_window", 4096) if fields.boolean("use_sliding_window", False) else None
    if fields.is_null("sliding_window"):
        window = None
    if "layer_types" in fields:
        types = fields.texts("layer_types", num_layers, LAYER_TYPES)
        if window is None and "sliding_attention" in types:
            raise UnsupportedModelError("config.json: layer_types names sliding_attention, but no window is set")
        return tuple(window if kind == "sliding_attention" else None for kind in types)
    first = fields.integer("max_window_layers", 28, low=0)
    return tuple(window if index >= first else None for index in range(num_layers))


def build(fields: Fields) -> CausalLM:
    """A `Qwen2ForCausalLM`."""
    common = common_fields(fields)
    common["windows"] = read_windows(fields, len(common["windows"]))
    return DecoderForCausalLM(DecoderConfig(**common, qkv_bias=True))
