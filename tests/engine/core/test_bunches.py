"""Which tokens are told at once, and which in bunches."""

import random
from typing import Any

from lepton_engine.core.bunches import SIZE, Bunches
from lepton_engine.core.events import Failed, NewTokens, Preempted
from lepton_engine.core.request import Request
from lepton_engine.sampling_params import OutputKind, SamplingParams


def bunches_of(**fields: Any) -> Bunches:
    bunches = Bunches()
    params = SamplingParams(**{"output_kind": OutputKind.FINAL_ONLY, **fields})
    bunches.consider(Request("k", [1, 2], params, 0, 0.0, 0, 1000))
    return bunches


def test_the_first_tokens_come_at_once_and_the_others_in_bunches() -> None:
    bunches = bunches_of()
    assert bunches.pass_on(NewTokens("k", 0, [5], time=1.0)) == NewTokens("k", 0, [5], time=1.0)
    for token in range(SIZE - 1):
        assert bunches.pass_on(NewTokens("k", 0, [token], time=2.0)) is None
    told = bunches.pass_on(NewTokens("k", 0, [99, 100], time=3.0))
    assert told == NewTokens("k", 0, [*range(SIZE - 1), 99, 100], time=3.0)
    assert bunches.pass_on(NewTokens("k", 0, [7], time=4.0)) is None
    assert bunches.pass_on(Preempted("k", 4.0)) == Preempted("k", 4.0)
    ended = bunches.pass_on(NewTokens("k", 0, [8], None, "stop", 8, 5.0))
    assert ended == NewTokens("k", 0, [7, 8], None, "stop", 8, 5.0)
    assert len(bunches) == 0


def test_whoever_reads_along_hears_of_every_token() -> None:
    for fields in ({"output_kind": OutputKind.DELTA}, {"stop": ["x"]}, {"logprobs": 1}):
        bunches = bunches_of(**fields)
        for token in range(3):
            assert bunches.pass_on(NewTokens("k", 0, [token])) == NewTokens("k", 0, [token])


def test_a_failure_forgets_what_was_held() -> None:
    bunches = bunches_of()
    bunches.pass_on(NewTokens("k", 0, [1]))
    bunches.pass_on(NewTokens("k", 0, [2]))
    failed = Failed("k", "RequestFailedError", "no")
    assert bunches.pass_on(failed) == failed
    assert len(bunches) == 0


def test_all_tokens_of_all_sequences_are_told_in_their_order() -> None:
    rng = random.Random(3)
    bunches = bunches_of(n=3)
    sent: list[list[int]] = [[], [], []]
    told: list[list[int]] = [[], [], []]
    running = {0, 1, 2}
    while running:
        index = rng.choice(sorted(running))
        tokens = [rng.randrange(1000) for _ in range(rng.randint(0, 5))]
        reason = "length" if rng.random() < 0.01 else None
        sent[index] += tokens
        event = bunches.pass_on(NewTokens("k", index, list(tokens), None, reason))
        if event is not None:
            assert isinstance(event, NewTokens)
            told[index] += event.token_ids
            assert event.finish_reason == reason
        if reason:
            assert told[index] == sent[index]
            running.remove(index)
    assert len(bunches) == 0
