"""bfloat16 and float16: no further from the float32 reference than the reference's own run in that dtype."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from lepton_engine.config import SchedulerSettings

LENGTH = 96
SHAPE: dict[str, Any] = {
    "vocab_size": 331,
    "num_hidden_layers": 3,
    "hidden_size": 96,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 160,
    "max_position_embeddings": 128,
    "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32},
}
GPT2_SHAPE: dict[str, Any] = {
    "vocab_size": 331,
    "n_layer": 3,
    "n_embd": 96,
    "n_head": 6,
    "n_positions": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
WINDOWED: dict[str, Any] = {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1}

MODULES: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE, attention_bias=True)),
    "mistral": lambda: transformers.MistralForCausalLM(transformers.MistralConfig(**SHAPE, sliding_window=24)),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SHAPE, **WINDOWED)),
    "qwen3": lambda: transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**SHAPE, **WINDOWED, head_dim=32)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2_SHAPE)),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", MODULES)
def test_error_against_float32(
    family: str,
    dtype: torch.dtype,
    load: Callable[..., Any],
    teach: Callable[..., Any],
    lesson: Callable[..., Any],
    randomise: Callable[[Any, int], Any],
) -> None:
    torch.set_num_threads(1)
    theirs, ours = [], []
    for seed in range(3):
        module = randomise(MODULES[family](), seed)
        model = load(module, dtype)
        ids = torch.randint(module.config.vocab_size, (1, LENGTH), generator=torch.Generator().manual_seed(seed))
        with torch.inference_mode():
            exact = module(ids, use_cache=False).logits[0]
            half = module.to(dtype)(ids, use_cache=False).logits[0].float()
        start = LENGTH // 2
        for chunk in (7, 64):
            teacher = teach(model, 64, SchedulerSettings(8, 96, chunk), dtype)
            teacher.run({"0": lesson(ids[0, :start].tolist(), ids[0, start:].tolist())})
            ours.append((teacher.recorded("0") - exact[start - 1 : -1]).abs().max())
        theirs.append((half - exact)[start - 1 : -1].abs().max())
    # The mean of the largest errors: a single one of them moves by a fifth from one summation order to another.
    mean = torch.stack(ours).mean(), torch.stack(theirs).mean()
    assert mean[0] <= 1.5 * mean[1], f"{family} in {dtype}: {mean[0]:.4g} against the reference's {mean[1]:.4g}"
