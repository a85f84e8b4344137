"""Speculation and company change nothing: every token and every bit of its log-probability is that of a run alone."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lepton_engine.config import SchedulerSettings
from lepton_engine.sampling_params import SamplingParams

MEMORY = {"llama": 1 << 16, "mistral": 1 << 16, "qwen2": 1 << 17, "qwen3": 1 << 16, "gpt2": 1 << 17}


def alone(driver: Any, asked: list[Any]) -> list[Any]:
    """Each request by itself, one after the other."""
    return [driver.run([replace(request, step=0)])[0] for request in asked]


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gpt2"])
@pytest.mark.parametrize("method", ["ngram", "draft"])
def test_families_over_random_schedules(
    family: str, method: str, drive: Callable[..., Any], random_requests: Callable[..., list[Any]]
) -> None:
    r = random.Random(family + method)
    asked = random_requests(r, 10)
    expected = alone(drive(family, caching=False), asked)
    speculation = "ngram" if method == "ngram" else family
    drafted = accepted = 0
    for _ in range(3):
        scheduler = SchedulerSettings(r.randint(2, 6), r.choice([6, 16, 48]), r.choice([None, 3, 8]))
        driver = drive(
            family,
            speculation,
            tokens=r.choice([1, 3, 6]),
            memory=r.choice([1 << 20, MEMORY[family]]),
            block_size=r.choice([4, 8]),
            scheduler=scheduler,
        )
        assert driver.run(asked) == expected
        stats = driver.core.stats()
        drafted, accepted = drafted + stats.drafted_tokens, accepted + stats.accepted_tokens
    assert drafted > 0
    assert accepted > 0 or method == "ngram"  # Random weights seldom repeat themselves.


BLOCKS = 26
"""Of four tokens, for requests of up to 95: of several that run, somebody is preempted."""


def long_requests(asked: list[Any]) -> list[Any]:
    """Such as come at once and go on."""
    params = [SamplingParams(temperature=t, max_tokens=40, ignore_eos=True, logprobs=2) for t in (0.0, 1.0)]
    return [
        replace(request, params=params[i % 2], max_tokens=40, step=2, stop=(), bad_words=(), seed=900 + i)
        for i, request in enumerate(asked)
    ]


def in_company(
    drive: Callable[..., Any], asked: list[Any], expected: list[Any], r: random.Random, **options: Any
) -> None:
    """Runs the requests without speculation and with both proposers; each gives what it gave alone."""
    preemptions = hits = 0
    for speculation in (None, "ngram", "near llama"):
        scheduler = SchedulerSettings(r.randint(4, 6), r.choice([16, 48]), r.choice([None, 3]))
        driver = drive("llama", speculation, scheduler=scheduler, **options)
        assert driver.run(asked) == expected
        stats = driver.core.stats()
        preemptions, hits = preemptions + stats.num_preemptions, hits + stats.prefix_hit_tokens
    assert preemptions > 0
    assert hits > 0


@pytest.mark.parametrize("quantization", [None, "int8", "int8-w8a8+head", "int4-g32", "int4-g32-asym", "fp8"])
@pytest.mark.parametrize(("dtype", "block_bytes"), [("float32", 2048), ("bfloat16", 1024)])
def test_batch_invariance_with_quantised_weights(
    quantization: str | None,
    dtype: str,
    block_bytes: int,
    drive: Callable[..., Any],
    random_requests: Callable[..., list[Any]],
) -> None:
    r = random.Random(f"{quantization}{dtype}")
    asked = random_requests(r, 10) + long_requests(random_requests(r, 4))
    options = {"quantization": quantization, "dtype": dtype}
    expected = alone(drive(caching=False, **options), asked)
    in_company(drive, asked, expected, r, memory=BLOCKS * block_bytes, **options)


@pytest.mark.parametrize("kv_dtype", ["int8", "fp8"])
def test_batch_invariance_with_a_quantised_cache(
    kv_dtype: str, drive: Callable[..., Any], random_requests: Callable[..., list[Any]]
) -> None:
    r = random.Random(kv_dtype)
    asked = random_requests(r, 10) + long_requests(random_requests(r, 4))
    options = {"quantization": "int8", "kv_dtype": kv_dtype, "dtype": "bfloat16"}
    expected = alone(drive(caching=False, **options), asked)
    in_company(drive, asked, expected, r, memory=BLOCKS * 640, **options)


@pytest.mark.parametrize("speculation", ["ngram", "near llama"])
def test_without_batch_invariance_greedy_differs_at_ties_alone(
    speculation: str, drive: Callable[..., Any], random_requests: Callable[..., list[Any]]
) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=24, logprobs=2, ignore_eos=True)
    asked = [
        replace(request, params=params, max_tokens=24, stop=(), bad_words=())
        for request in random_requests(random.Random(speculation), 10)
    ]
    expected = alone(drive(caching=False, batch_invariant=False), asked)
    driver = drive("llama", speculation, batch_invariant=False)
    same = 0
    for ours, theirs in zip(driver.run(asked), expected, strict=True):
        for token, other, entry in zip(ours[0].tokens, theirs[0].tokens, theirs[0].logprobs, strict=False):
            if token != other:
                first, second = sorted(entry.top_logprobs, reverse=True)[:2]
                assert first - second <= 1e-3
                break
            same += 1
    assert same > 200
    assert driver.core.stats().drafted_tokens > 0


def test_preemption_and_prefix_hits_come_up(
    drive: Callable[..., Any], random_requests: Callable[..., list[Any]]
) -> None:
    """The schedules above mean nothing unless such things happen in them."""
    preemptions = hits = 0
    for seed in range(4):
        asked = random_requests(random.Random(seed), 10)
        driver = drive("llama", "ngram", memory=3 << 14)
        driver.run(asked)
        stats = driver.core.stats()
        preemptions, hits = preemptions + stats.num_preemptions, hits + stats.prefix_hit_tokens
    assert preemptions > 0
    assert hits > 0


def test_the_model_as_its_own_draft_is_always_right(
    drive: Callable[..., Any], random_requests: Callable[..., list[Any]]
) -> None:
    """Greedy and sampled: the draft draws with the request's own random numbers."""
    driver = drive("llama", "llama", tokens=4)
    params = SamplingParams(temperature=1.0, max_tokens=24, ignore_eos=True)
    driver.run([replace(random_requests(random.Random(0), 1)[0], params=params, max_tokens=24, stop=(), bad_words=())])
    stats = driver.core.stats()
    assert stats.drafted_tokens == stats.accepted_tokens > 12
