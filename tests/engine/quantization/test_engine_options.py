"""The engine with quantised weights and KV caches: the options together with prefix hits, forks and preemption."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lepton_engine import LeptonEngine, SamplingParams
from lepton_engine.offline.quantize import quantize_checkpoint
from lepton_engine.quantization.scheme import parse_scheme

PROMPT = "the quick brown fox jumps over the lazy dog"
OPTIONS = [
    {"kv_cache_dtype": "int8"},
    {"kv_cache_dtype": "fp8"},
    {"quantization": "int8"},
    {"quantization": "int8+head", "kv_cache_dtype": "int8"},
    {"quantization": "int8-w8a8", "kv_cache_dtype": "fp8"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_prefix_hits_forks_and_chunks(options: dict[str, str], engine_over: Callable[..., LeptonEngine]) -> None:
    engine = engine_over(block_size=4, **options)
    greedy = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
    first, again = (engine.generate(PROMPT, greedy)[0] for _ in range(2))
    assert again.num_cached_tokens > 0
    assert again.outputs[0].token_ids == first.outputs[0].token_ids
    # Siblings copy the partial last block, scales and all.
    forked = engine.generate(PROMPT, SamplingParams(temperature=0, max_tokens=12, ignore_eos=True, n=3))[0]
    assert [output.token_ids for output in forked.outputs] == [first.outputs[0].token_ids] * 3
    chunked = engine_over(block_size=4, max_prefill_chunk=5, **options)
    assert chunked.generate(PROMPT, greedy)[0].outputs[0].token_ids == first.outputs[0].token_ids


def test_preemption_recomputes_the_same(tiny: Path, engine_over: Callable[..., LeptonEngine]) -> None:
    params = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
    prompts = [PROMPT[i:] for i in range(6)]
    roomy = engine_over(tiny, kv_cache_dtype="int8", block_size=4)
    tight = engine_over(tiny, kv_cache_dtype="int8", block_size=4, kv_cache_memory=40_000)
    alone, crowded = ([out.outputs[0].token_ids for out in e.generate(prompts, params)] for e in (roomy, tight))
    assert tight.stats().num_preemptions > 0
    assert crowded == alone


def test_a_quantised_cache_holds_more_tokens(tiny: Path, engine_over: Callable[..., LeptonEngine]) -> None:
    blocks = [
        engine_over(tiny, kv_cache_memory=1 << 18, max_num_seqs=64, kv_cache_dtype=name).model_info.num_kv_blocks
        for name in ("auto", "int8")
    ]
    # Heads of 8: 32 bytes in float32, 8 and a scale of 4 in int8.
    assert blocks[1] / blocks[0] == pytest.approx(32 / 12, rel=0.05)


def test_what_is_loaded_is_told(tiny: Path, tmp_path: Path, engine_over: Callable[..., LeptonEngine]) -> None:
    quantize_checkpoint(tiny, tmp_path / "int8", parse_scheme("int8"))
    plain, quantized, loaded = (
        engine_over(tiny).model_info,
        engine_over(tiny, quantization="int8").model_info,
        engine_over(tmp_path / "int8").model_info,
    )
    assert (plain.quantization, quantized.quantization, loaded.quantization) == ("", "int8", "compressed-tensors")
    assert plain.num_parameters == quantized.num_parameters == loaded.num_parameters
    assert loaded.weight_bytes == quantized.weight_bytes < plain.weight_bytes


def test_quantised_ahead_and_on_load_are_one(
    tiny: Path, tmp_path: Path, engine_over: Callable[..., LeptonEngine]
) -> None:
    quantize_checkpoint(tiny, tmp_path / "int8", parse_scheme("int8"))
    params = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    on_load, ahead = (
        engine_over(model, **options).generate(PROMPT, params)[0].outputs[0].token_ids
        for model, options in ((tiny, {"quantization": "int8"}), (tmp_path / "int8", {}))
    )
    assert on_load == ahead
