"""Whole models over the Triton kernels against `transformers`: on the chip where there is one, else interpreted."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lepton_engine.build import build_core
from lepton_engine.config import CacheSettings, ModelSettings, SchedulerSettings
from lepton_engine.core.events import Failed, NewTokens, TokenLogprobs
from lepton_engine.kernels import dispatch
from lepton_engine.kernels.cuda import cuda
from lepton_engine.messages import EngineSettings, Submit
from lepton_engine.runtime import sampler
from lepton_engine.runtime.graphs import CallGraph
from lepton_engine.runtime.runner import Runner
from lepton_engine.sampling_params import SamplingParams
from lepton_engine.step import EngineCore

transformers = pytest.importorskip("transformers")

SHAPE: dict[str, Any] = {
    "vocab_size": 211,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
PROMPTS = [[5, 9, 3, 100, 7, 7, 150, 2, 30, 31, 90, 4], [17], [200, 3, 9]]


def llama() -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE, attention_bias=True))


def mistral() -> Any:
    return transformers.MistralForCausalLM(transformers.MistralConfig(**SHAPE, sliding_window=7))


def qwen2() -> Any:
    options = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SHAPE, **options))


def qwen3() -> Any:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**SHAPE, head_dim=24))


def gpt2() -> Any:
    size = {"n_embd": 48, "n_head": 4, "n_layer": 2, "n_positions": 128}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=211, **size, bos_token_id=0, eos_token_id=1))


@pytest.fixture
def kernels(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends tensors in host memory to the kernels too, where they are interpreted."""
    found = cuda()
    assert found is not None
    if device.type == "cuda":
        return
    monkeypatch.setattr(dispatch, "_native", None)
    for name in ("rms_norm", "add_rms_norm", "apply_rotary", "silu_mul", "quantized_linear"):
        monkeypatch.setattr(dispatch, name, getattr(found, name))

    def attention(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, batch: Any, group: Any, scale: float, *rest: Any
    ) -> torch.Tensor:
        window, scales = (*rest, None)[:2]
        return found.paged_attention(q, k, v, batch, group, scale, window, scales)

    def linear(x: torch.Tensor, weight: Any, bias: Any, dtype: torch.dtype | None = None) -> torch.Tensor:
        product = found.linear(x, weight, bias) if isinstance(weight, torch.Tensor) else None
        out = product if product is not None else found.quantized_linear(x, weight, bias)
        return out if dtype is None else out.to(dtype)

    monkeypatch.setattr(dispatch, "store_kv", found.store_kv)
    monkeypatch.setattr(dispatch, "paged_attention", attention)
    monkeypatch.setattr(dispatch, "linear", linear)
    monkeypatch.setattr(sampler, "first_argmax", found.first_argmax)
    monkeypatch.setattr(sampler, "draw", found.draw)


def saved(make: Callable[[], Any], folder: Path) -> Any:
    torch.manual_seed(3)
    module = make().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=1.5 / parameter.shape[-1] ** 0.5)
            else:
                parameter.add_(torch.randn(parameter.shape) * 0.2)
    module.save_pretrained(folder)
    return module


def core_over(folder: Path, device: torch.device, **model: Any) -> EngineCore:
    core = build_core(
        EngineSettings(
            model=str(folder),
            model_settings=ModelSettings(device=device.type, num_threads=1, **model),
            cache=CacheSettings(memory=1 << 20, block_size=4),
            scheduler=SchedulerSettings(max_num_seqs=4, max_num_batched_tokens=9, overlap=True),
        )
    )
    assert isinstance(core._runner, Runner)
    if device.type == "cpu":
        core._runner.capture_graphs(CallGraph)  # on a GPU `build_core` has recorded real ones
    return core


def generate(
    core: EngineCore, params: SamplingParams, prompts: Sequence[list[int]] = PROMPTS
) -> list[tuple[list[int], list[TokenLogprobs]]]:
    """Tokens and their log-probabilities of all prompts, run together."""
    for index, prompt in enumerate(prompts):
        assert params.max_tokens is not None
        core.handle(
            "test",
            Submit(
                key=str(index),
                prompt_token_ids=prompt,
                params=params,
                seed=index,
                max_tokens=params.max_tokens,
                stop_token_ids=[],
                bad_word_ids=[],
            ),
        )
    tokens: defaultdict[str, list[int]] = defaultdict(list)
    entries: defaultdict[str, list[TokenLogprobs]] = defaultdict(list)
    while core._patience() == 0.0:
        core.step()
        for reply in core.take_replies().get("test", []):
            assert not isinstance(reply, Failed), reply
            if isinstance(reply, NewTokens):
                tokens[reply.key] += reply.token_ids
                entries[reply.key] += reply.logprobs or []
    assert core.integrity() == []
    return [(tokens[str(i)], entries[str(i)]) for i in range(len(prompts))]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("make", [llama, mistral, qwen2, qwen3, gpt2])
def test_a_family_is_its_reference(make: Callable[[], Any], device: torch.device, tmp_path: Path) -> None:
    module = saved(make, tmp_path)
    params = SamplingParams(temperature=0.0, max_tokens=3, logprobs=3, ignore_eos=True)
    for prompt, (tokens, entries) in zip(PROMPTS, generate(core_over(tmp_path, device), params), strict=True):
        assert len(tokens) == 3
        with torch.inference_mode():
            logits = module(torch.tensor([prompt + tokens])).logits[0].float()
        expected = torch.log_softmax(logits, dim=-1)[len(prompt) - 1 : -1]
        for row, token, entry in zip(expected, tokens, entries, strict=True):
            assert abs(entry.logprob - float(row[token])) < 2e-4
            torch.testing.assert_close(torch.tensor(entry.top_logprobs), row.topk(3).values, atol=2e-4, rtol=0)
            top = row.topk(2).values
            if top[0] - top[1] > 1e-3:
                assert token == int(row.argmax())


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("scheme", ["int8", "int4-g32", "fp8"])
def test_quantised_weights_run(scheme: str, device: torch.device, tmp_path: Path) -> None:
    """Near what the unquantised model says, nearer than another model's tokens could be."""
    shape = {**SHAPE, "hidden_size": 96, "intermediate_size": 96, "num_hidden_layers": 1}
    saved(lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape)), tmp_path)
    params = SamplingParams(temperature=0.0, max_tokens=2, logprobs=0, ignore_eos=True)
    plain = generate(core_over(tmp_path, device), params)
    small = generate(core_over(tmp_path, device, quantization=scheme), params)
    for (_, ours), (_, theirs) in zip(small, plain, strict=True):
        assert abs(ours[0].logprob - theirs[0].logprob) < (1.5 if "int4" in scheme else 0.5)


@pytest.mark.usefixtures("kernels")
def test_sampled_tokens_are_the_twins(device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(llama, tmp_path)
    params = SamplingParams(temperature=0.9, max_tokens=5, ignore_eos=True)
    core = core_over(tmp_path, device)
    drawn = [tokens for tokens, _ in generate(core, params)]
    monkeypatch.undo()
    on_host = core_over(tmp_path, torch.device("cpu"))
    assert drawn == [tokens for tokens, _ in generate(on_host, params)]


@pytest.mark.usefixtures("kernels")
def test_batch_invariant_tokens(device: torch.device, tmp_path: Path) -> None:
    """The bits of every log-probability are those that a request has alone."""
    saved(llama, tmp_path)
    params = SamplingParams(temperature=0.0, max_tokens=2, logprobs=2, ignore_eos=True)
    together = generate(core_over(tmp_path, device, batch_invariant=True), params)
    for prompt, (tokens, entries) in list(zip(PROMPTS, together, strict=True))[:2]:
        ((alone, own),) = generate(core_over(tmp_path, device, batch_invariant=True), params, [prompt])
        assert alone == tokens
        assert [entry.logprob for entry in own] == [entry.logprob for entry in entries]
