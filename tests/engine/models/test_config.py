"""config.json in both dialects; fields of the wrong type and models that cannot be run faithfully are refused."""

from typing import Any

import pytest
import torch
import transformers

from lepton_engine.errors import ModelLoadError, UnsupportedModelError
from lepton_engine.models.base import CausalLM
from lepton_engine.models.registry import FAMILIES, build_model

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 101,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
QWEN2 = LLAMA | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
MISTRAL = LLAMA | {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
GPT2: dict[str, Any] = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "vocab_size": 101,
    "n_embd": 32,
    "n_head": 4,
    "n_layer": 2,
    "n_ctx": 48,
    "n_positions": 64,
}


def build(config: dict[str, Any]) -> CausalLM:
    with torch.device("meta"):
        return build_model(config)


def without(config: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in names}


def windows(config: dict[str, Any]) -> list[int | None]:
    return [layer.window for layer in build(config).kv_layers]


def test_defaults_of_each_dialect() -> None:
    model = build(LLAMA)
    assert (model.vocab_size, model.max_position) == (101, 64)
    assert [(layer.num_kv_heads, layer.head_dim, layer.window) for layer in model.kv_layers] == [(2, 8, None)] * 4
    assert build(without(LLAMA, "num_key_value_heads")).kv_layers[0].num_kv_heads == 4
    assert build(LLAMA | {"num_key_value_heads": None}).kv_layers[0].num_kv_heads == 4
    assert build(LLAMA | {"head_dim": 12}).kv_layers[0].head_dim == 12
    assert build(LLAMA | {"head_dim": None}).kv_layers[0].head_dim == 8
    assert "lm_head.weight" in build(LLAMA).weight_slots()
    assert "lm_head.weight" not in build(LLAMA | {"tie_word_embeddings": True}).weight_slots()
    assert "lm_head.weight" not in build(GPT2).weight_slots()
    assert build(GPT2).max_position == 64
    assert build(without(GPT2, "n_positions")).max_position == 48
    qwen3 = LLAMA | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
    assert build(qwen3).kv_layers[0].head_dim == 128


def test_family_by_architecture_alone() -> None:
    for model_type, (architecture, _) in FAMILIES.items():
        config = without(GPT2 if model_type == "gpt2" else LLAMA, "model_type") | {"architectures": [architecture]}
        assert build(config).vocab_size == 101
    assert build(without(LLAMA, "architectures")).vocab_size == 101


def test_windows() -> None:
    sliding = {"use_sliding_window": True, "sliding_window": 9}
    types = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
    assert windows(QWEN2) == [None] * 4
    assert windows(QWEN2 | {"use_sliding_window": False, "sliding_window": 9, "max_window_layers": 1}) == [None] * 4
    assert windows(QWEN2 | sliding) == [None] * 4  # the default of max_window_layers is 28
    assert windows(QWEN2 | sliding | {"max_window_layers": 1}) == [None, 9, 9, 9]
    assert windows(QWEN2 | sliding | {"max_window_layers": 0}) == [9] * 4
    assert windows(QWEN2 | sliding | {"layer_types": types}) == [9, None, None, 9]
    assert windows(QWEN2 | {"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0}) == [None] * 4
    assert windows(MISTRAL | {"sliding_window": 9}) == [9] * 4
    assert windows(MISTRAL | {"sliding_window": None}) == [None] * 4


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gpt2"])
def test_reads_what_transformers_writes(family: str) -> None:
    config = transformers.AutoConfig.for_model(family)
    model = build(config.to_dict())
    assert model.vocab_size == config.vocab_size
    assert len(model.kv_layers) == config.num_hidden_layers
    assert model.max_position == config.max_position_embeddings
    assert {layer.window for layer in model.kv_layers} == {4096 if family == "mistral" else None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": "32"}, r"hidden_size is '32', an integer of at least 1"),
        ({"hidden_size": 32.0}, r"hidden_size is 32.0, an integer"),
        ({"hidden_size": True}, r"hidden_size is True, an integer"),
        ({"num_attention_heads": 0}, r"num_attention_heads is 0, an integer of at least 1"),
        ({"num_key_value_heads": -1}, r"num_key_value_heads is -1"),
        ({"num_hidden_layers": [4]}, r"num_hidden_layers is \[4\]"),
        ({"head_dim": "8"}, r"head_dim is '8'"),
        ({"vocab_size": None}, r"vocab_size is missing"),
        ({"max_position_embeddings": 1e9}, r"max_position_embeddings is 1000000000.0, an integer"),
        ({"rms_norm_eps": "1e-5"}, r"rms_norm_eps is '1e-5', a number"),
        ({"rms_norm_eps": float("nan")}, r"rms_norm_eps is nan, a number"),
        ({"tie_word_embeddings": "false"}, r"tie_word_embeddings is 'false', true or false"),
        ({"attention_bias": 1}, r"attention_bias is 1, true or false"),
        ({"hidden_act": None, "mlp_bias": "no"}, r"mlp_bias is 'no'"),
        ({"hidden_act": 3}, r"hidden_act is 3, a text"),
        ({"rope_scaling": "linear"}, r"rope_scaling is 'linear', a mapping"),
        ({"architectures": "LlamaForCausalLM"}, r"architectures is 'LlamaForCausalLM', a list of names"),
        ({"architectures": [3]}, r"architectures is \[3\], a list of names"),
        ({"model_type": 7}, r"model_type is 7, a text"),
        ({"model_type": None, "architectures": None}, r"model_type is None, a text"),
    ],
    ids=str,
)
def test_fields_of_the_wrong_type(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelLoadError, match=f"config.json: {message}"):
        build(LLAMA | change)


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        (QWEN2, {"layer_types": ["full_attention"]}, r"layer_types is .*, a list of 4 of full_attention, sliding_"),
        (QWEN2, {"layer_types": ["chunked_attention"] * 4}, r"layer_types is .*, a list of 4 of full_attention"),
        (QWEN2, {"use_sliding_window": True, "sliding_window": 0}, r"sliding_window is 0, an integer of at least 1"),
        (MISTRAL, {"sliding_window": "4096"}, r"sliding_window is '4096'"),
        (GPT2, {"n_inner": "128"}, r"n_inner is '128'"),
        (GPT2, {"scale_attn_weights": "yes"}, r"scale_attn_weights is 'yes'"),
        (GPT2, {"n_embd": None, "n_head": []}, r"n_head is \[\]"),
    ],
    ids=str,
)
def test_fields_of_the_wrong_type_by_family(base: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelLoadError, match=f"config.json: {message}"):
        build(base | change)


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        (LLAMA, {"model_type": "mamba"}, r"model_type is 'mamba', known are gpt2, llama, mistral, qwen2, qwen3"),
        (LLAMA, {"architectures": ["LlamaForSequenceClassification"]}, r"LlamaForCausalLM is needed"),
        (LLAMA, {"num_key_value_heads": 3}, r"4, which is no multiple of num_key_value_heads, 3"),
        (LLAMA, {"hidden_act": "xielu"}, r"hidden_act is 'xielu', known are gelu"),
        (LLAMA, {"rope_scaling": {"type": "longrope"}}, r"rope_scaling is of type 'longrope', known are"),
        (LLAMA, {"attn_logit_softcapping": 50.0}, r"attn_logit_softcapping is 50.0"),
        (LLAMA, {"final_logit_softcapping": 30.0}, r"final_logit_softcapping is 30.0"),
        (LLAMA, {"attention_sinks": 4}, r"attention_sinks is 4"),
        (LLAMA, {"embedding_multiplier": 12.0}, r"embedding_multiplier is 12.0"),
        (MISTRAL, {"layer_types": ["full_attention"] * 4}, r"layer_types is of another family"),
        (QWEN2, {"layer_types": ["sliding_attention"] * 4}, r"names sliding_attention, but no window is set"),
        (GPT2, {"n_head": 5}, r"n_embd is 32, which is no multiple of n_head, 5"),
        (GPT2, {"add_cross_attention": True}, r"add_cross_attention"),
        (GPT2, {"activation_function": "prelu"}, r"activation_function is 'prelu', known are"),
    ],
    ids=str,
)
def test_what_cannot_be_run_faithfully(base: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        build(base | change)


@pytest.mark.parametrize("change", [{"logit_scale": 1.0}, {"clip_qkv": None}, {"alibi": False}], ids=str)
def test_neutral_values_are_let_through(change: dict[str, Any]) -> None:
    assert build(LLAMA | change).vocab_size == 101
