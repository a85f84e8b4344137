"""Rotary embeddings as configurations of transformers 4 and 5 describe them."""

import math
from typing import Any

from lepton_engine.errors import UnsupportedModelError
from lepton_engine.layers.rotary import RopeConfig, RopeKind
from lepton_engine.weights.fields import Fields


def parse_rope(fields: Fields, *, head_dim: int, max_position: int, default_theta: float = 10000.0) -> RopeConfig:
    """Read `rope_parameters` (transformers 5), or `rope_theta` with `rope_scaling` (transformers 4).

    Raises:
        ModelLoadError: a field has the wrong type or is missing.
        UnsupportedModelError: the kind of scaling is not one of `RopeKind`.
    """
    # Where both stand, transformers 5 goes by the older one.
    name = "rope_scaling" if fields.mapping("rope_scaling") else "rope_parameters"
    scaling = fields.mapping(name) or {}
    if any(isinstance(value, dict) for value in scaling.values()):
        raise UnsupportedModelError(f"config.json: {name} differs by layer type, which is not supported")
    own = Fields(scaling, f"{name}.")
    theta = own.number("rope_theta", fields.number("rope_theta", default_theta, low=1.0), low=1.0)
    partial = own.number("partial_rotary_factor", fields.number("partial_rotary_factor", 1.0))
    dim = int(head_dim * partial)
    if not 0 < dim <= head_dim or dim % 2:
        raise UnsupportedModelError(f"config.json: {dim} of {head_dim} head dimensions would be rotated")
    kind_name = own.text("rope_type", own.text("type", "default"))
    try:
        kind = RopeKind(kind_name)
    except ValueError:
        known = ", ".join(RopeKind)
        raise UnsupportedModelError(f"config.json: {name} is of type {kind_name!r}, known are {known}") from None
    options: dict[str, Any] = {"dim": dim, "theta": theta, "kind": kind}
    if kind in (RopeKind.LINEAR, RopeKind.LLAMA3):
        options["factor"] = own.number("factor", low=1e-6)
    # The field beside the others has the last word, as in transformers.
    original = fields.integer(
        "original_max_position_embeddings", own.integer("original_max_position_embeddings", max_position)
    )
    if kind is RopeKind.LLAMA3:
        options["original_max_position"] = original
        options["low_freq_factor"] = own.number("low_freq_factor")
        options["high_freq_factor"] = own.number("high_freq_factor")
        if options["high_freq_factor"] <= options["low_freq_factor"]:
            raise UnsupportedModelError(f"config.json: {name}.high_freq_factor must exceed low_freq_factor")
    if kind is RopeKind.YARN:
        options.update(_yarn(own, original, max_position))
    return RopeConfig(**options)


def _yarn(own: Fields, original: int, max_position: int) -> dict[str, Any]:
    factor = own.number("factor", max_position / original, low=1e-6)
    if "attention_factor" in own:
        attention_factor = own.number("attention_factor")
    elif own.number("mscale", 0.0) and own.number("mscale_all_dim", 0.0):
        attention_factor = _mscale(factor, own.number("mscale")) / _mscale(factor, own.number("mscale_all_dim"))
    else:
        attention_factor = _mscale(factor, 1.0)
    return {
        "factor": factor,
        "original_max_position": original,
        "attention_factor": attention_factor,
        "beta_fast": own.number("beta_fast", 32.0) or 32.0,
        "beta_slow": own.number("beta_slow", 1.0) or 1.0,
        "truncate": own.boolean("truncate", True),
    }


def _mscale(factor: float, mscale: float) -> float:
    """Temperature of the attention for a stretched context (YaRN, section 3.4)."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0
