"""Prompt lookup, the length of drafts, and settings that cannot be."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lepton_engine.async_engine import AsyncLeptonEngine
from lepton_engine.config import SchedulerSettings, SpeculationSettings
from lepton_engine.core.request import Request
from lepton_engine.errors import InvalidRequestError, UnsupportedError
from lepton_engine.sampling_params import SamplingParams
from lepton_engine.speculation.length import DraftLengths, Record, best_length
from lepton_engine.speculation.ngram import NgramIndex


@pytest.mark.parametrize(
    ("tokens", "limit", "proposed"),
    [
        ([1, 2, 3, 9, 1, 2], 2, [3, 9]),
        ([1, 2, 3, 1, 2, 4, 1, 2], 1, [4]),  # where it stood last
        ([1, 2, 3, 9, 5, 3, 7, 1, 2, 3], 2, [9, 5]),  # the longer run, not the later one
        ([1, 2, 3], 3, []),
        ([7, 7, 7], 4, [7, 7, 7, 7]),
        ([1, 2, 1, 2], 5, [1, 2, 1, 2, 1]),  # goes on into what it has proposed
        ([4], 3, []),
    ],
)
def test_lookup(tokens: list[int], limit: int, proposed: list[int]) -> None:
    assert NgramIndex(3, 1).continuation(tokens, limit) == proposed


def test_an_index_that_grows_is_one_made_at_once() -> None:
    r = random.Random(1)
    tokens = [r.randrange(3) for _ in range(200)]
    grown = NgramIndex(4, 2)
    for end in range(1, 201, 3):
        assert grown.continuation(tokens[:end], 5) == NgramIndex(4, 2).continuation(tokens[:end], 5)


def test_drafts_are_as_long_as_they_are_worth() -> None:
    assert best_length(0.0, 8, 0.05) == 0
    assert best_length(1.0, 8, 0.05) == 8
    assert best_length(1.0, 8, 1.0) == 0  # one token in the time of a step gains nothing
    lengths = [best_length(rate / 10, 8, 0.1) for rate in range(11)]
    assert lengths == sorted(lengths)


def test_what_a_draft_has_come_to_counts() -> None:
    record = Record()
    before = record.rate
    record.update(4, 4)
    assert record.rate > before
    for total in range(8, 80, 4):
        record.update(total, 4)  # and nothing more is accepted
    assert record.rate < 0.15


def test_sequences_that_gain_nothing_stop_drafting_and_try_again_seldom() -> None:
    request = Request("key", [1], SamplingParams(), 0, 0.0, 0, 1000)
    lengths, sequence = DraftLengths(4), request.sequences[0]
    asked = []
    for _ in range(1000):
        (length,) = lengths.choose([sequence])
        asked.append(length)
        sequence.num_drafted += length
    assert asked[0] > 1
    assert set(asked[100:]) == {0, 1}
    assert sum(asked[500:]) <= 3
    newcomer = Request("other", [1], SamplingParams(), 1, 0.0, 0, 1000).sequences[0]
    assert lengths.choose([newcomer])[0] < asked[0]  # It starts from what the others have met with.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "eagle"}, "speculation.method: 'eagle' is not one of ngram, draft"),
        ({"num_speculative_tokens": 0}, "speculation.num_speculative_tokens: 0"),
        ({"num_speculative_tokens": 33}, "speculation.num_speculative_tokens: 33 is more than 32"),
        ({"prompt_lookup_min": 0}, "speculation.prompt_lookup_min: 0"),
        ({"prompt_lookup_max": 1}, "speculation.prompt_lookup_max: 1 is less than prompt_lookup_min, 2"),
        ({"method": "draft"}, "speculation.model: is needed by the method 'draft'"),
        ({"model": "somewhere"}, "speculation.model: goes only with the method 'draft'"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        SpeculationSettings(**options)


def test_a_draft_model_of_another_vocabulary(drive: Callable[..., Any]) -> None:
    with pytest.raises(
        InvalidRequestError, match=r"speculation\.model: has a vocabulary of 67 tokens, the model one of 61"
    ):
        drive("llama", "other vocabulary")


def test_no_overlap_with_speculation(checkpoint: Callable[[str], Any]) -> None:
    with pytest.raises(InvalidRequestError, match="overlap: True does not go with speculation"):
        AsyncLeptonEngine(str(checkpoint("llama")), overlap=True, speculation=SpeculationSettings())


def test_batch_invariance_needs_the_native_kernels(drive: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lepton_engine.build.native", lambda: None)
    with pytest.raises(UnsupportedError, match="batch_invariant: True needs the native CPU kernels"):
        drive("llama")


def test_a_speculator_that_fails_is_switched_off(
    drive: Callable[..., Any], random_requests: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = random_requests(random.Random(3), 4)
    expected = drive("llama").run(asked)
    driver = drive("llama", "llama", scheduler=SchedulerSettings(4, 32))

    def broken(*_: object) -> None:
        raise RuntimeError("the draft model has crashed")

    monkeypatch.setattr(driver.core._speculator._proposer._runner, "launch", broken)
    assert driver.run([replace(request) for request in asked]) == expected
    assert driver.core.stats().drafted_tokens == 0


def test_a_draft_model_keeps_its_books(drive: Callable[..., Any], random_requests: Callable[..., list[Any]]) -> None:
    driver = drive("llama", "near llama", memory=1 << 16)
    proposer = driver.core._speculator._proposer
    for seed in range(3):
        driver.run(random_requests(random.Random(seed), 8))
        assert proposer.problems() == []
    proposer.propose([])
    (pool,) = proposer._cache.pools
    assert pool.num_free == pool.num_blocks - 1
    assert sorted(proposer._slots) == list(range(6))
