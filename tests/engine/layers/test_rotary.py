"""Frequencies and scaling of every rope kind against `transformers`, for configurations of both dialects."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from lepton_engine.errors import ModelLoadError, UnsupportedModelError
from lepton_engine.layers.rotary import Rotary, inverse_frequencies
from lepton_engine.models.rope import parse_rope
from lepton_engine.weights.fields import Fields

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 512}
MSCALE = {"mscale": 0.707, "mscale_all_dim": 1.0}
SCALINGS: list[dict[str, Any]] = [
    {"rope_type": "default"},
    {"rope_type": "linear", "factor": 2.5},
    {"type": "linear", "factor": 4},
    {"rope_type": "dynamic", "factor": 3.0},
    {"rope_type": "llama3", **LLAMA3},
    {"rope_type": "llama3", **LLAMA3, "factor": 32, "high_freq_factor": 2.0},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    {"rope_type": "yarn", "factor": 4.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    {"type": "yarn", "factor": 0.5, "original_max_position_embeddings": 64},
    {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 256},
    {"rope_type": "yarn", "factor": 16.0, "beta_fast": 24, "beta_slow": 2, "original_max_position_embeddings": 128},
    {"rope_type": "yarn", "factor": 16.0, "truncate": False, "original_max_position_embeddings": 4096},
    {"rope_type": "yarn", "factor": 8.0, "attention_factor": 1.3},
    {"rope_type": "yarn", "factor": 40.0, **MSCALE},
    {"rope_type": "yarn", "factor": 40.0, "mscale": 0.707},
]
MAX_POSITION = 2048
SHAPE: dict[str, Any] = {"hidden_size": 96, "num_attention_heads": 4, "max_position_embeddings": MAX_POSITION}


def compare(config: dict[str, Any], head_dim: int) -> None:
    theirs = LlamaRotaryEmbedding(LlamaConfig(**SHAPE, head_dim=head_dim, **config))
    ours = parse_rope(Fields(config | SHAPE), head_dim=head_dim, max_position=MAX_POSITION)
    # To the bit: positions multiply any difference.
    assert torch.equal(inverse_frequencies(ours), theirs.inv_freq)
    assert ours.attention_factor == theirs.attention_scaling
    rotary = Rotary(ours, MAX_POSITION)
    rotary.build(torch.device("cpu"))
    positions = torch.arange(MAX_POSITION)
    cos, sin = theirs(torch.empty(0), positions.unsqueeze(0))
    half = head_dim // 2
    torch.testing.assert_close(rotary.table, torch.cat([cos[0, :, :half], sin[0, :, :half]], -1), atol=1e-7, rtol=0)


@pytest.mark.parametrize("head_dim", [24, 64])
@pytest.mark.parametrize("theta", [10000.0, 500000])
@pytest.mark.parametrize("scaling", SCALINGS, ids=str)
def test_both_dialects(scaling: dict[str, Any], theta: float, head_dim: int) -> None:
    compare({"rope_scaling": dict(scaling), "rope_theta": theta}, head_dim)
    compare({"rope_parameters": scaling | {"rope_theta": theta}}, head_dim)


def test_which_field_has_the_last_word() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    # Beside rope_parameters, rope_scaling; beside the mapping's own, the outer original context.
    linear = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e3}
    compare({"rope_scaling": dict(yarn), "rope_theta": 1e4, "rope_parameters": linear}, 24)
    compare({"rope_scaling": dict(yarn), "rope_theta": 1e4, "original_max_position_embeddings": 700}, 24)
    compare({"rope_scaling": None, "rope_theta": 77.0}, 24)
    compare({}, 24)


def test_beyond_the_trained_context() -> None:
    for kind in ("default", "linear", "yarn"):
        config = parse_rope(
            Fields({"rope_parameters": {"rope_type": kind, "factor": 2.0}}), head_dim=16, max_position=32
        )
        rotary = Rotary(config, 32)
        rotary.build(torch.device("cpu"))
        before = rotary.table
        rotary.extend(100)
        assert rotary.table.shape == (100, 16)
        assert torch.equal(rotary.table[:32], before)


def test_dynamic_beyond_its_context_is_refused() -> None:
    config = parse_rope(
        Fields({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}), head_dim=16, max_position=32
    )
    rotary = Rotary(config, 32)
    rotary.build(torch.device("cpu"))
    with pytest.raises(UnsupportedModelError, match="beyond max_position_embeddings, 32"):
        rotary.extend(33)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"rope_scaling": {"type": "longrope"}}, UnsupportedModelError, r"'longrope', known are default, linear"),
        ({"rope_parameters": {"rope_type": "mrope"}}, UnsupportedModelError, "rope_parameters is of type 'mrope'"),
        ({"rope_parameters": {"full_attention": {}}}, UnsupportedModelError, "differs by layer type"),
        ({"rope_scaling": {"type": "linear"}}, ModelLoadError, "rope_scaling.factor is missing"),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, ModelLoadError, "rope_scaling.factor is '2', a number"),
        ({"rope_scaling": {"type": 3}}, ModelLoadError, "rope_scaling.type is 3, a text"),
        ({"rope_scaling": [1]}, ModelLoadError, r"rope_scaling is \[1\], a mapping"),
        ({"rope_theta": True}, ModelLoadError, "rope_theta is True, a number"),
        ({"rope_theta": float("nan")}, ModelLoadError, "rope_theta is nan, a number"),
        ({"rope_scaling": {"type": "llama3", "factor": 8.0}}, ModelLoadError, "low_freq_factor is missing"),
        (
            {"rope_scaling": {"type": "llama3", **LLAMA3, "high_freq_factor": 1.0}},
            UnsupportedModelError,
            "high_freq_factor must exceed low_freq_factor",
        ),
        ({"partial_rotary_factor": 1.5}, UnsupportedModelError, "24 of 16 head dimensions"),
        ({"partial_rotary_factor": 0.2}, UnsupportedModelError, "3 of 16 head dimensions"),
    ],
    ids=str,
)
def test_what_is_refused(config: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parse_rope(Fields(config), head_dim=16, max_position=64)
