"""Parity where test_parity does not reach: partial rotation, transformers 4's files, beyond the trained context."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from transformers.models.llama import modeling_llama

from lepton_engine.config import SchedulerSettings
from lepton_engine.models.loader import load_model
from lepton_engine.weights.checkpoint import open_checkpoint

CPU = torch.device("cpu")
SHAPE: dict[str, Any] = {
    "vocab_size": 257,
    "hidden_size": 64,
    "intermediate_size": 72,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def rotate_part(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *_: Any) -> Any:
    """Rotation of a head's first dimensions, as Phi's and StableLM's models in `transformers` have it."""
    dim = cos.shape[-1]
    rotated = []
    for x in (q, k):
        part = x[..., :dim]
        half = torch.cat([-part[..., dim // 2 :], part[..., : dim // 2]], -1)
        turned = part * cos.unsqueeze(1) + half * sin.unsqueeze(1)
        rotated.append(torch.cat([turned, x[..., dim:]], -1))
    return rotated


def check(model: Any, module: Any, teach: Callable[..., Any], lesson: Callable[..., Any], length: int) -> None:
    torch.set_num_threads(1)
    ids = torch.randint(2, module.config.vocab_size, (1, length), generator=torch.Generator().manual_seed(length))
    with torch.inference_mode():
        expected = module(ids, use_cache=False).logits[0]
    start = length - 64
    for chunk in (7, 64):
        teacher = teach(model, 200, SchedulerSettings(8, 96, chunk))
        teacher.run({"0": lesson(ids[0, :start].tolist(), ids[0, start:].tolist())})
        logits = teacher.recorded("0")
        assert (logits - expected[start - 1 : -1]).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("factor", [0.25, 0.5, 0.75])
@pytest.mark.parametrize(
    "kind", [{"rope_type": "linear", "factor": 1.0}, {"rope_type": "yarn", "factor": 4.0}], ids=str
)
def test_partial_rotation(
    kind: dict[str, Any],
    factor: float,
    load: Callable[..., Any],
    teach: Callable[..., Any],
    lesson: Callable[..., Any],
    randomise: Callable[[Any, int], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # transformers' own Llama computes fewer frequencies for this field, then fails to apply them to whole heads.
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", rotate_part)
    rope = kind | {"rope_theta": 1e4, "partial_rotary_factor": factor}
    module = randomise(transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE, rope_parameters=rope)), 3)
    check(load(module), module, teach, lesson, 100)


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
YARN = {"factor": 4.0, "original_max_position_embeddings": 32}
OLD: dict[str, tuple[str, type[Any], dict[str, Any]]] = {
    "llama 2": ("llama", transformers.LlamaForCausalLM, {"pretraining_tp": 1, "rope_scaling": None}),
    "llama linear": (
        "llama",
        transformers.LlamaForCausalLM,
        {"rope_theta": 5e4, "rope_scaling": {"type": "linear", "factor": 2.0}, "attention_bias": True},
    ),
    "llama 3.1": (
        "llama",
        transformers.LlamaForCausalLM,
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}, "tie_word_embeddings": True},
    ),
    "mistral": ("mistral", transformers.MistralForCausalLM, {"rope_theta": 1e6, "sliding_window": 20}),
    "qwen2 yarn": (
        "qwen2",
        transformers.Qwen2ForCausalLM,
        {
            "rope_theta": 1e6,
            "rope_scaling": {"type": "yarn", **YARN},
            "use_sliding_window": True,
            "sliding_window": 12,
            "max_window_layers": 1,
        },
    ),
    "qwen3": (
        "qwen3",
        transformers.Qwen3ForCausalLM,
        {"rope_theta": 1e6, "head_dim": 24, "use_sliding_window": False, "max_window_layers": 1},
    ),
}


@pytest.mark.parametrize("name", OLD)
def test_files_of_transformers_4(
    name: str,
    tmp_path: Path,
    teach: Callable[..., Any],
    lesson: Callable[..., Any],
    randomise: Callable[[Any, int], Any],
) -> None:
    model_type, architecture, options = OLD[name]
    config = {
        "architectures": [architecture.__name__],
        "model_type": model_type,
        "torch_dtype": "float32",
        "transformers_version": "4.46.0",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "use_cache": True,
        **SHAPE,
        **options,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    module = randomise(architecture(transformers.AutoConfig.from_pretrained(tmp_path)), 5)
    tensors = {key: value.clone() for key, value in module.state_dict().items()}
    if options.get("tie_word_embeddings"):
        del tensors["lm_head.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    model = load_model(open_checkpoint(tmp_path), dtype=torch.float32, device=CPU)
    check(model, module, teach, lesson, 100)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "default"},
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "llama3", **LLAMA3},
        {"rope_type": "yarn", **YARN},
    ],
    ids=str,
)
def test_beyond_the_trained_context(
    rope: dict[str, Any],
    load: Callable[..., Any],
    teach: Callable[..., Any],
    lesson: Callable[..., Any],
    randomise: Callable[[Any, int], Any],
) -> None:
    rope = rope | {"rope_theta": 1e4}
    module = randomise(transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE, rope_parameters=rope)), 4)
    model = load(module)
    model.extend(400)
    check(model, module, teach, lesson, 400)
