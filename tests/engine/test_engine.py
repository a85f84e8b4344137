"""The front door over a tiny model, in this process and in one of its own."""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lepton_engine import LeptonEngine, SamplingParams
from lepton_engine.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    LeptonError,
    ModelLoadError,
    OutOfMemoryError,
    QueueFullError,
    RequestFailedError,
    UnsupportedError,
)

GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
Make = Callable[..., LeptonEngine]


def reference(module: Any, prompt: list[int], count: int) -> list[int]:
    ids = torch.tensor([prompt])
    options = {"do_sample": False, "min_new_tokens": count, "max_new_tokens": count, "pad_token_id": 0}
    out = module.generate(ids, attention_mask=torch.ones_like(ids), **options)
    return list(map(int, out[0, len(prompt) :]))


@pytest.mark.parametrize("in_process", [True, False])
def test_greedy_is_the_references(engine_over: Make, tiny_module: Any, in_process: bool) -> None:
    engine = engine_over(in_process=in_process)
    prompts = [[5, 6, 7], [9] * 40, [1], list(range(100))]
    outputs = engine.generate(prompts, GREEDY)
    for prompt, output in zip(prompts, outputs, strict=True):
        assert output.finished
        assert output.prompt_token_ids == prompt
        assert output.outputs[0].finish_reason == "length"
        assert output.outputs[0].token_ids == reference(tiny_module, prompt, 12)


def test_a_loaded_module_runs_as_its_checkpoint(engine_over: Make, tiny_module: Any, tiny: Path) -> None:
    prompt = [3, 1, 4, 1, 5]
    expected = engine_over().generate([prompt], GREEDY)[0].outputs[0].token_ids
    given = engine_over(tiny_module, tokenizer=tiny)
    assert given.generate([prompt], GREEDY)[0].outputs[0].token_ids == expected
    with pytest.raises(InvalidRequestError, match="tokenizer: is needed"):
        LeptonEngine(tiny_module)
    with pytest.raises(UnsupportedError, match="in_process"):
        LeptonEngine(tiny_module, tokenizer=tiny, in_process=False)


def test_the_seeds_front_door(engine_over: Make) -> None:
    lepton_engine = engine_over()
    input_ids = lepton_engine.tokenize("我今天去了公园")
    outputs = lepton_engine.推理(input_ids, GREEDY)
    assert outputs[: len(input_ids)] == input_ids
    assert len(outputs) == len(input_ids) + 12
    assert lepton_engine.decode(outputs).startswith("我今天去了公园")
    batch = lepton_engine.infer(torch.tensor([input_ids, input_ids]), GREEDY)
    assert batch == [outputs, outputs]
    assert lepton_engine.decode(batch) == [lepton_engine.decode(outputs)] * 2


def test_stream_chat_and_context_manager(tiny: Path) -> None:
    with LeptonEngine(tiny, kv_cache_memory=1 << 20, num_threads=1) as engine:
        whole = engine.generate("ab", GREEDY)[0].outputs[0]
        seen = list(engine.stream("ab", GREEDY))
        counts = [len(output.outputs[0].token_ids) for output in seen]
        assert counts == sorted(set(counts))  # Tokens that came meanwhile are told together.
        assert counts[-1] == 12
        assert seen[-1].outputs[0].text == whole.text
        first = next(iter(engine.stream("ab", GREEDY)))
        assert not first.finished
        answer = engine.chat([{"role": "user", "content": "ab"}], GREEDY)[0]
        assert answer.prompt_token_ids == engine.tokenize("user: ab\n")
    with pytest.raises(LeptonError, match="shut down"):
        engine.generate("ab")


def test_seeds_repeat_and_differ(engine_over: Make) -> None:
    engine = engine_over()
    params = SamplingParams(max_tokens=24, ignore_eos=True, seed=11)
    one, two = (engine.generate([[1, 2, 3]], params)[0] for _ in range(2))
    assert one.outputs[0].token_ids == two.outputs[0].token_ids
    assert one.seed == 11
    free = [engine.generate([[1, 2, 3]], SamplingParams(max_tokens=24, ignore_eos=True))[0] for _ in range(2)]
    assert free[0].seed != free[1].seed
    assert free[0].outputs[0].token_ids != free[1].outputs[0].token_ids
    again = SamplingParams(max_tokens=24, ignore_eos=True, seed=free[0].seed)
    assert engine.generate([[1, 2, 3]], again)[0].outputs[0].token_ids == free[0].outputs[0].token_ids


@pytest.mark.parametrize("overlap", [False, True])
def test_everything_together_equals_everything_alone(engine_over: Make, overlap: bool) -> None:
    """Mixed sampling, chunks, a tight cache, n > 1 and shared prefixes change no request's tokens."""
    prompts = [[7] * 33 + [i % 3, i] for i in range(12)]
    params = [
        SamplingParams(
            n=1 + i % 3,
            temperature=0.8 + 0.1 * i,
            top_p=1.0 if i % 2 else 0.9,
            top_k=0 if i % 4 else 20,
            min_p=0.02 if i == 5 else 0.0,
            repetition_penalty=1.2 if i == 6 else 1.0,
            presence_penalty=0.4 if i == 7 else 0.0,
            logprobs=2 if i == 8 else None,
            seed=i,
            max_tokens=20,
            min_tokens=20,
        )
        for i in range(12)
    ]
    alone = engine_over(enable_prefix_caching=False)
    expected = [alone.generate([prompt], own)[0] for prompt, own in zip(prompts, params, strict=True)]
    tight = engine_over(kv_cache_memory=24 * 2**10, max_prefill_chunk=7, block_size=4, overlap=overlap)
    together = tight.generate(prompts, params)
    assert tight.stats().num_preemptions > 0
    for one, other in zip(together, expected, strict=True):
        assert [c.token_ids for c in one.outputs] == [c.token_ids for c in other.outputs]
        assert len({tuple(c.token_ids) for c in one.outputs}) == len(one.outputs)


def test_logprobs_are_the_references(engine_over: Make, tiny_module: Any) -> None:
    engine = engine_over()
    prompt = [8, 9, 10, 11]
    params = SamplingParams(temperature=0, max_tokens=6, logprobs=3, prompt_logprobs=2, ignore_eos=True)
    output = engine.generate([prompt], params)[0]
    choice = output.outputs[0]
    with torch.inference_mode():
        scores = torch.log_softmax(tiny_module(torch.tensor([prompt + choice.token_ids])).logits[0], dim=-1)
    assert choice.logprobs is not None
    for position, (token, found) in enumerate(zip(choice.token_ids, choice.logprobs, strict=True), len(prompt) - 1):
        best = scores[position].topk(3)
        assert list(found)[:3] == best.indices.tolist()
        assert found[token].rank == 1
        for entry, value in zip(list(found.values())[:3], best.values.tolist(), strict=True):
            assert entry.logprob == pytest.approx(value, abs=1e-4)
    assert choice.cumulative_logprob == pytest.approx(
        sum(found[token].logprob for token, found in zip(choice.token_ids, choice.logprobs, strict=True))
    )
    assert output.prompt_logprobs is not None
    assert output.prompt_logprobs[0] is None
    for position in range(1, 4):
        told = output.prompt_logprobs[position]
        assert told is not None
        assert told[prompt[position]].logprob == pytest.approx(scores[position - 1, prompt[position]].item(), abs=1e-4)
        assert len(told) in (2, 3)


def test_score_reads_no_prefix_cache_and_is_the_references(engine_over: Make, tiny_module: Any) -> None:
    engine = engine_over(max_prefill_chunk=5)
    prompt = [(7 * i) % 251 for i in range(60)]
    engine.generate([prompt], GREEDY)
    before = engine.stats().computed_tokens
    score = engine.score([prompt])[0]
    assert engine.stats().computed_tokens - before == 60
    with torch.inference_mode():
        scores = torch.log_softmax(tiny_module(torch.tensor([prompt])).logits[0], dim=-1)
    expected = [scores[i - 1, prompt[i]].item() for i in range(1, 60)]
    assert score.token_logprobs[0] is None
    assert score.token_logprobs[1:] == pytest.approx(expected, abs=1e-4)
    assert score.perplexity == pytest.approx(math.exp(-sum(expected) / 59), rel=1e-4)
    assert engine.score([[5]])[0].perplexity is None


def test_a_shared_prefix_is_computed_once(engine_over: Make) -> None:
    engine = engine_over()
    shared = [(3 * i) % 250 for i in range(64)]
    outputs = engine.generate([[*shared, i] for i in range(8)], GREEDY)
    stats = engine.stats()
    assert stats.prompt_tokens == 8 * 65
    assert stats.prefix_hit_tokens == 7 * 64
    assert stats.computed_tokens == 64 + 8 + 8 * 11
    assert sorted(output.num_cached_tokens for output in outputs) == [0] + [64] * 7


def test_prefixes_are_not_shared_between_tenants(engine_over: Make) -> None:
    engine = engine_over()
    prompt = list(range(80))
    for tenant in ("a", "b", "a"):
        engine.generate([prompt], GREEDY, tenant=tenant)
    assert engine.stats().prefix_hit_tokens == 64


def test_stop_strings_end_the_text_and_the_work(engine_over: Make) -> None:
    engine = engine_over()
    whole = engine.generate([[1, 2]], SamplingParams(seed=3, max_tokens=60, ignore_eos=True))[0].outputs[0].text
    stop = whole[10:12]
    cut = whole.index(stop)
    params = SamplingParams(seed=3, max_tokens=60, stop=(stop,), ignore_eos=True)
    output = engine.generate([[1, 2]], params)[0].outputs[0]
    assert (output.text, output.finish_reason, output.stop_reason) == (whole[:cut], "stop", stop)
    kept = SamplingParams(seed=3, max_tokens=60, stop=(stop,), ignore_eos=True, include_stop_str_in_output=True)
    assert engine.generate([[1, 2]], kept)[0].outputs[0].text == whole[:cut] + stop


def test_stop_tokens_and_min_tokens(engine_over: Make) -> None:
    engine = engine_over()
    tokens = engine.generate([[1, 2]], GREEDY)[0].outputs[0].token_ids
    stop = tokens[4]
    first = tokens.index(stop)
    output = engine.generate([[1, 2]], SamplingParams(temperature=0, max_tokens=12, stop_token_ids=(stop,)))[0].outputs[
        0
    ]
    assert (output.token_ids, output.finish_reason, output.stop_reason) == (tokens[: first + 1], "stop", stop)
    later = SamplingParams(temperature=0, max_tokens=12, min_tokens=8, stop_token_ids=(stop,))
    assert stop not in engine.generate([[1, 2]], later)[0].outputs[0].token_ids[:8]


def test_end_of_sequence_is_no_stop_reason(engine_over: Make) -> None:
    engine = engine_over()
    params = SamplingParams(max_tokens=5, allowed_token_ids=(256,))
    output = engine.generate([[1, 2]], params)[0].outputs[0]
    assert (output.token_ids, output.finish_reason, output.stop_reason, output.text) == ([256], "stop", None, "")


def test_generation_config_is_the_default(engine_over: Make, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": False, "eos_token_id": [3, 256]}))
    engine = engine_over(folder)
    assert engine.model_info.eos_token_ids == [3, 256]
    one, two = (engine.generate([[1, 2]])[0].outputs[0].token_ids for _ in range(2))
    assert one == two
    assert engine.generate([[1, 2]], SamplingParams(max_tokens=9, allowed_token_ids=(3,)))[0].outputs[0].token_ids == [
        3
    ]


def test_leaving_a_stream_frees_its_blocks(engine_over: Make) -> None:
    engine = engine_over()
    for _ in engine.stream([[1, 2, 3]][0], SamplingParams(max_tokens=100, ignore_eos=True)):
        break
    assert engine.generate([[5]], GREEDY)[0].finished  # A step later nothing of it is left: the fixture checks.


def test_deadline_and_time_limit(engine_over: Make) -> None:
    engine = engine_over()
    long = SamplingParams(max_tokens=120, ignore_eos=True)
    with pytest.raises(DeadlineExceededError):
        engine.generate([[1]], long, deadline=time.monotonic() - 1)
    assert (engine.stats().num_aborted, engine.stats().num_failed) == (1, 0)  # The contract counts it as aborted.
    output = engine.generate([[1]], long, time_limit=0.0)[0].outputs[0]
    assert output.finish_reason == "time_limit"


# -- bad input ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared_engine(tiny: Path) -> Iterator[LeptonEngine]:
    with LeptonEngine(tiny, kv_cache_memory=1 << 20, num_threads=1) as engine:
        yield engine


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "prompt: is empty"),
        ([[]], "prompt: is empty"),
        ([[1, 257]], r"prompt: token id 257 at position 1 is outside the vocabulary of 257"),
        ([[-1]], r"token id -1 at position 0"),
        ([[1.5]], r"token id 1.5 at position 0"),
        ([[1] * 128], r"128 tokens leave no room in the context of 128 tokens"),
        ([[1] * 4000], r"4000 tokens leave no room"),
    ],
)
def test_bad_prompts(shared_engine: LeptonEngine, prompt: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        shared_engine.generate(prompt, GREEDY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"logprobs": 128, "allowed_token_ids": (300,)}, "allowed_token_ids"),
        ({"logit_bias": {257: 1.0}}, r"logit_bias.*257"),
        ({"stop_token_ids": (999,)}, r"stop_token_ids.*999"),
        ({"n": 64}, r"n: 64"),
        ({"min_tokens": 1, "allowed_token_ids": (256,)}, "allowed_token_ids: holds only stop tokens"),
        ({"bad_words": ("a",), "allowed_token_ids": (64,)}, "allowed_token_ids: holds only tokens that bad_words bans"),
    ],
)
def test_parameters_that_do_not_go_with_the_model(engine_over: Make, options: dict[str, Any], message: str) -> None:
    engine = engine_over(max_num_seqs=8)
    with pytest.raises(InvalidRequestError, match=message):
        engine.generate([[1]], SamplingParams(**options))


def test_a_prompt_that_never_fits_the_kv_cache(engine_over: Make) -> None:
    engine = engine_over(kv_cache_memory=16 * 2**10)
    held = engine.model_info.max_model_len
    assert held < 128
    with pytest.raises(InvalidRequestError, match=f"no room in the context of {held} tokens"):
        engine.generate([[1] * (held + 1)], GREEDY)
    assert engine.generate([[1] * (held - 2)], GREEDY)[0].outputs[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kv_cache_memory": 100}, OutOfMemoryError, "kv_cache_memory: 100 bytes"),
        ({"kv_cache_memory": 16 << 10, "max_model_len": 128}, OutOfMemoryError, "max_model_len asks for 128"),
        ({"max_model_len": 0}, InvalidRequestError, "max_model_len: 0"),
        ({"max_num_seqs": 0}, InvalidRequestError, "max_num_seqs: 0"),
        ({"block_size": -1}, InvalidRequestError, "block_size: -1"),
        ({"dtype": "int8"}, InvalidRequestError, "dtype: 'int8' is not one of"),
        ({"device": "tpu"}, InvalidRequestError, "device: 'tpu'"),
        ({"quantization": "int5"}, InvalidRequestError, "quantization: 'int5' is not one of int8, int8-w8a8"),
        ({"quantization": "int4-g48"}, InvalidRequestError, "quantization: 'int4-g48': groups of 48 are not one of 32"),
        ({"quantization": "int8+tail"}, InvalidRequestError, r"quantization: 'int8\+tail'.* only 'head' is allowed"),
        ({"quantization": "fp8-w8a8", "device": "cpu"}, InvalidRequestError, "'fp8-w8a8' needs a CUDA device"),
        (
            {"quantization": "int4-g64"},
            ModelLoadError,
            "q_proj.weight cannot .* 32 inputs, .* groups of 64 do not divide",
        ),
        ({"kv_cache_dtype": "int4"}, InvalidRequestError, "kv_cache_dtype: 'int4' is not one of auto, int8, fp8"),
        ({"tokenizer": "/nowhere"}, ModelLoadError, "nowhere"),
    ],
)
@pytest.mark.parametrize("in_process", [True, False])
def test_settings_that_cannot_be(
    tiny: Path, options: dict[str, Any], error: type[LeptonError], message: str, in_process: bool
) -> None:
    with pytest.raises(error, match=message):
        LeptonEngine(tiny, in_process=in_process, num_threads=1, **options)


def test_a_tokenizer_that_does_not_match(tiny: Path, tmp_path: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    tensors = load_file(tiny / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][:200].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": 200, "eos_token_id": 1}))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny / name, tmp_path / name)
    with pytest.raises(ModelLoadError, match=r"go up to 256, the model's vocabulary has 200"):
        LeptonEngine(tmp_path, num_threads=1)


def test_a_full_queue_refuses(engine_over: Make) -> None:
    engine = engine_over(max_num_seqs=1, max_queued_requests=2)
    with pytest.raises(QueueFullError, match="the queue is full"):
        engine.generate([[i] for i in range(12)], GREEDY)
    assert engine.stats().num_rejected > 0


def test_nan_logits_end_their_request_alone(engine_over: Make, tiny: Path, tmp_path: Path) -> None:
    """One token's embedding is NaN: requests with it fail, the others are undisturbed, and so is who comes after."""
    folder = tmp_path / "broken"
    shutil.copytree(tiny, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"][77] = torch.nan
    save_file(tensors, folder / "model.safetensors")
    prompts = [[1, 2, 3] * 12, [4, 5, 6] * 12]
    expected = [output.outputs[0].token_ids for output in engine_over().generate(prompts, GREEDY)]
    broken = engine_over(folder, kv_cache_memory=24 << 10)
    forbid = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True, logit_bias={77: -100.0})
    for _ in range(4):
        with pytest.raises(RequestFailedError, match="not finite"):
            broken.generate([[1, 2, 3] * 12, [4, 77, 6] * 12], forbid)
        assert [output.outputs[0].token_ids for output in broken.generate(prompts, forbid)] == expected
    assert broken.stats().num_failed == 4
