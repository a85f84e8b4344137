"""Every family against `transformers` in float32, teacher-forced over 64 positions on random weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from lepton_engine.config import SchedulerSettings

POSITIONS = 64
PROMPT = 19

SIZES = [
    {"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 80},
    {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 72},
    {"hidden_size": 40, "num_attention_heads": 5, "num_key_value_heads": 1, "intermediate_size": 96, "head_dim": 16},
    {"hidden_size": 32, "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 56, "head_dim": 24},
    {"hidden_size": 56, "num_attention_heads": 7, "num_key_value_heads": 7, "intermediate_size": 64},
    {"hidden_size": 96, "num_attention_heads": 3, "num_key_value_heads": 1, "intermediate_size": 112},
]
ROPES: list[dict[str, Any]] = [
    {"rope_type": "default", "rope_theta": 1e4},
    {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0},
    {
        "rope_type": "llama3",
        "rope_theta": 5e3,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32},
    {
        "rope_type": "yarn",
        "rope_theta": 2e4,
        "factor": 8.0,
        "original_max_position_embeddings": 16,
        "beta_fast": 16.0,
        "beta_slow": 2.0,
        "mscale": 1.2,
        "mscale_all_dim": 0.8,
        "truncate": False,
    },
    {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
]


def shape(index: int, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": 211 + 37 * index,
        "num_hidden_layers": 2 + index % 2,
        "max_position_embeddings": 128,
        "rope_parameters": ROPES[index],
        "tie_word_embeddings": index % 2 == 1,
        "bos_token_id": 0,
        "eos_token_id": 1,
        **SIZES[index],
        **more,
    }


def llama(index: int) -> Any:
    options = shape(index, attention_bias=index % 3 == 0, mlp_bias=index in (0, 4))
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**options))


def mistral(index: int) -> Any:
    window = [5, 16, 33, 7, None, 64][index]
    return transformers.MistralForCausalLM(transformers.MistralConfig(**shape(index, sliding_window=window)))


def qwen2(index: int) -> Any:
    options = shape(index, use_sliding_window=index % 3 != 2, sliding_window=6 + 5 * index, max_window_layers=1)
    options.pop("head_dim", None)
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**options))


def qwen3(index: int) -> Any:
    options = shape(index, use_sliding_window=index % 2 == 0, sliding_window=9 + 4 * index, attention_bias=index == 3)
    options.setdefault("head_dim", 20)
    if index == 4:
        options["layer_types"] = ["sliding_attention", "full_attention"]
    else:
        options["max_window_layers"] = 1
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**options))


def gpt2(index: int) -> Any:
    size = SIZES[index]
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=211 + 37 * index,
            n_embd=size["hidden_size"],
            n_head=size["num_attention_heads"],
            n_layer=3,
            n_positions=128,
            n_inner=None if index % 2 else 72,
            activation_function=["gelu_new", "relu", "gelu", "silu", "quick_gelu", "tanh"][index],
            scale_attn_by_inverse_layer_idx=index in (1, 4),
            scale_attn_weights=index != 2,
            tie_word_embeddings=index != 3,
            bos_token_id=0,
            eos_token_id=1,
        )
    )


FAMILIES = {"llama": llama, "mistral": mistral, "qwen2": qwen2, "qwen3": qwen3, "gpt2": gpt2}
CASES = [pytest.param(make, index, id=f"{name}-{index}") for name, make in FAMILIES.items() for index in range(6)]


class Reference:
    """The reference's own greedy continuation of some prompts, and its logits along them."""

    def __init__(self, module: Any, seed: int, lengths: tuple[int, ...] = (PROMPT, 1, 30, 7)) -> None:
        generator = torch.Generator().manual_seed(seed)
        vocab = module.config.vocab_size
        self.prompts = [torch.randint(vocab, (n,), generator=generator).tolist() for n in lengths]
        self.forced, self.logits = [], []
        with torch.inference_mode():
            for prompt in self.prompts:
                options = {"do_sample": False, "min_new_tokens": POSITIONS, "max_new_tokens": POSITIONS}
                ids = module.generate(torch.tensor([prompt]), **options, pad_token_id=0)[0].tolist()
                whole = module(torch.tensor([ids]), use_cache=False).logits[0].float()
                self.forced.append(ids[len(prompt) :])
                self.logits.append(whole[len(prompt) - 1 : -1])

    def check(self, index: int, logits: torch.Tensor) -> None:
        expected = self.logits[index]
        assert logits.shape == expected.shape
        largest = expected.abs().max()
        assert (logits - expected).abs().max() <= 1e-4 * largest
        top = expected.topk(2, dim=-1)
        clear = top.values[:, 0] - top.values[:, 1] > 1e-3
        assert clear.any()
        assert torch.equal(logits.argmax(-1)[clear], top.indices[clear, 0])


@pytest.mark.parametrize(("make", "index"), CASES)
def test_parity(
    make: Callable[[int], Any],
    index: int,
    load: Callable[..., Any],
    teach: Callable[..., Any],
    lesson: Callable[..., Any],
    randomise: Callable[[Any, int], Any],
) -> None:
    torch.set_num_threads(1)
    module = randomise(make(index), index)
    reference = Reference(module, 100 + index)
    model = load(module)
    lessons = [lesson(p, f) for p, f in zip(reference.prompts, reference.forced, strict=True)]
    mixed = {str(i): entry for i, entry in enumerate(lessons)}

    for chunk in (1, 7, 64):
        settings = SchedulerSettings(max_num_seqs=8, max_num_batched_tokens=96, max_prefill_chunk=chunk)
        alone = teach(model, 64, settings)
        alone.run({"0": lessons[0]})
        reference.check(0, alone.recorded("0"))
        # The same again hits the prefix that the first left behind.
        alone.run({"again": lessons[0]})
        assert alone.scheduler.cached_tokens == (PROMPT - 1) // 4 * 4
        reference.check(0, alone.recorded("again"))

        together = teach(model, 200, settings)
        together.run(mixed)
        for i in range(len(lessons)):
            reference.check(i, together.recorded(str(i)))

        # Two run when two of a better priority come: the first two are preempted and computed again.
        interrupted = teach(model, 200, SchedulerSettings(2, 96, chunk))
        interrupted.run({"2": lessons[2], "3": lessons[3]}, urgent={"0": lessons[0], "1": lessons[1]})
        assert interrupted.scheduler.preemptions >= 2
        for i in range(len(lessons)):
            reference.check(i, interrupted.recorded(str(i)))
