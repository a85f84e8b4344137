"""Llama 2 and 3.x, and the base that its relatives vary."""

from typing import Any

from lepton_engine.models.base import CausalLM
from lepton_engine.models.decoder import DecoderConfig, DecoderForCausalLM
from lepton_engine.models.rope import parse_rope
from lepton_engine.weights.fields import Fields


def common_fields(fields: Fields, *, head_dim: int | None = None, norm_eps: float = 1e-6) -> dict[str, Any]:
    """What all of the Llama line reads alike; the arguments are the family's defaults where they differ."""
    hidden_size = fields.integer("hidden_size")
    num_heads = fields.integer("num_attention_heads")
    head_dim = fields.integer("head_dim", head_dim or hidden_size // num_heads or 1)
    max_position = fields.integer("max_position_embeddings")
    return {
        "vocab_size": fields.integer("vocab_size"),
        "hidden_size": hidden_size,
        "intermediate_size": fields.integer("intermediate_size"),
        "num_heads": num_heads,
        "num_kv_heads": fields.integer("num_key_value_heads", num_heads),
        "head_dim": head_dim,
        "max_position": max_position,
        "windows": (None,) * fields.integer("num_hidden_layers"),
        "rope": parse_rope(fields, head_dim=head_dim, max_position=max_position),
        "norm_eps": fields.number("rms_norm_eps", norm_eps),
        "activation": fields.text("hidden_act", "silu"),
        "tied": fields.boolean("tie_word_embeddings", False),
    }


def build(fields: Fields) -> CausalLM:
    """A `LlamaForCausalLM`."""
    bias = fields.boolean("attention_bias", False)
    return DecoderForCausalLM(
        DecoderConfig(
            **common_fields(fields),
            qkv_bias=bias,
            output_bias=bias,
            mlp_bias=fields.boolean("mlp_bias", False),
        )
    )
