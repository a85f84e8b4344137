"""Rows beside others: each as if alone, greedy ones, broken ones, and what is reported of them."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lepton_engine.runtime.sampler import Sampler, SampleRow
from lepton_engine.sampling_params import SamplingParams

Make = Callable[[int], torch.Tensor]
SIZE = 1003

MIXED: list[dict[str, Any]] = [
    {},
    {"temperature": 0.0},
    {"temperature": 0.3, "logprobs": 3},
    {"top_k": 5},
    {"top_k": 400, "top_p": 0.9},
    {"top_p": 0.5, "logprobs": 0},
    {"min_p": 0.05, "top_k": 50},
    {"repetition_penalty": 1.5, "prompt": (1, 2, 3), "output": (4, 4, 5)},
    {"temperature": 0.0, "frequency_penalty": 2.0, "output": (4, 4, 5), "logprobs": 7},
    {"logit_bias": {5: 4.0, 900: 5.0}},
    {"allowed_token_ids": (1, 10, 100, 1000), "top_p": 0.8},
    {"bad": ((3,), (4, 5, 6)), "output": (4, 5)},
    {"min_tokens": 9, "stop": (0, 1, 2, 3)},
]


def logits_of(count: int, size: int = SIZE) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(size)) * 3.0


@pytest.mark.parametrize("size", [SIZE, 40])
def test_a_row_gets_the_same_token_whatever_else_is_in_the_batch(sampling: Any, size: int) -> None:
    cases = [
        {name: value for name, value in case.items() if size == SIZE or name not in ("logit_bias", "allowed_token_ids")}
        for case in MIXED * 2
    ]
    rows = [sampling.row(seed=7 + i, position=i % 5, slot=i, **case) for i, case in enumerate(cases)]
    logits = logits_of(len(rows), size)
    together = sampling.sample(logits.clone(), rows).to_host()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1)).tolist()
    shuffled = sampling.sample(logits[order].clone(), [rows[i] for i in order]).to_host()
    for i, row in enumerate(rows):
        alone = sampling.sample(logits[i : i + 1].clone(), [row]).to_host()
        place = order.index(i)
        assert together.token_ids[i] == shuffled.token_ids[place] == alone.token_ids[0]
        wanted = row.params.logprobs
        assert together.entry(i, wanted) == shuffled.entry(place, wanted) == alone.entry(0, wanted)


def test_greedy_takes_the_first_of_the_most_likely(sampling: Any) -> None:
    logits = logits_of(3)
    logits[1, [70, 700, 999]] = 50.0
    rows = [sampling.row(temperature=t, slot=i, top_k=5, top_p=0.5) for i, t in enumerate((0.0, 0.0, 1e-6))]
    tokens = sampling.sample(logits.clone(), rows).token_ids.tolist()
    assert tokens == [int(logits[0].argmax()), 70, int(logits[2].argmax())]


def test_another_position_or_seed_is_another_draw(sampling: Any) -> None:
    logits = torch.zeros(1, 50_000)
    places = [(seed, position) for seed in range(8) for position in range(8)]
    rows = [sampling.row(seed=seed, position=position) for seed, position in places]
    tokens = [sampling.sample(logits.clone(), [row]).token_ids.item() for row in rows]
    assert len(set(tokens)) > 60
    again = [sampling.sample(logits.clone(), [row]).token_ids.item() for row in rows]
    assert tokens == again


def negative_nan() -> float:
    return float(torch.tensor([-1 << 22], dtype=torch.int32).view(torch.float32).item())


BROKEN: dict[str, Callable[[torch.Tensor], object]] = {
    "one NaN": lambda row: row[SIZE // 2].fill_(math.nan),
    "one negative NaN": lambda row: row[SIZE // 2].fill_(negative_nan()),
    "all NaN": lambda row: row.fill_(math.nan),
    "one inf": lambda row: row[3].fill_(math.inf),
    "all -inf": lambda row: row.fill_(-math.inf),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_row_fails_alone(sampling: Any, broken: str) -> None:
    rows = [sampling.row(seed=i, slot=i, **case) for i, case in enumerate(MIXED)]
    logits = logits_of(len(rows))
    sound = sampling.sample(logits.clone(), rows).to_host()
    for bad in range(len(rows)):
        damaged = logits.clone()
        BROKEN[broken](damaged[bad])
        found = sampling.sample(damaged, rows).to_host()
        assert found.invalid == [i == bad for i in range(len(rows))]
        assert found.token_ids[bad] == 0
        for i, row in enumerate(rows):
            if i != bad:
                assert found.token_ids[i] == sound.token_ids[i]
                assert found.entry(i, row.params.logprobs) == sound.entry(i, row.params.logprobs)


def test_some_tokens_at_minus_infinity_are_sound(sampling: Any) -> None:
    logits = logits_of(1)
    logits[0, 1:] = -math.inf
    for case in ({}, {"top_p": 0.5}, {"top_k": 3}, {"temperature": 0.0}, {"min_p": 0.1}):
        sampled = sampling.sample(logits.clone(), [sampling.row(**case)])
        assert not sampled.invalid.any()
        assert sampled.token_ids.tolist() == [0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "case",
    [
        {"allowed_token_ids": (3, 4), "min_tokens": 5, "stop": (3, 4, 5)},
        {"allowed_token_ids": (3,), "bad": ((3,),)},
        {"allowed_token_ids": (3, 4), "bad": ((9, 3),), "min_tokens": 5, "stop": (4,), "output": (9,)},
    ],
)
def test_constraints_that_allow_no_token_make_the_row_invalid(
    sampling: Any, case: dict[str, Any], temperature: float
) -> None:
    rows = [sampling.row(temperature=temperature, slot=0, **case), sampling.row(temperature=temperature, slot=1)]
    assert sampling.sample(logits_of(2), rows).invalid.tolist() == [True, False]


def test_the_most_extreme_values_are_sampled_soundly(sampling: Any) -> None:
    """A vanishing temperature, huge logits and an enormous temperature: no overflow makes a row invalid."""
    logits = logits_of(4) * 1e4
    rows = [
        sampling.row(temperature=1e-4, slot=0),
        sampling.row(temperature=1e6, slot=1, top_p=1e-9),
        sampling.row(temperature=1.0, slot=2, top_p=1e-9),
        sampling.row(temperature=1e-4, slot=3, repetition_penalty=1e6, prompt=tuple(range(SIZE - 1))),
    ]
    sampled = sampling.sample(logits.clone(), rows)
    assert not sampled.invalid.any()
    best = logits.argmax(dim=-1).tolist()
    assert sampled.token_ids.tolist()[:3] == best[:3]


@pytest.mark.parametrize("count", [0, 1, 5, 128])
def test_logprobs_are_of_the_models_own_distribution(sampling: Any, count: int) -> None:
    cases: list[dict[str, Any]] = [
        {},
        {"temperature": 0.0},
        {"temperature": 2.0, "top_k": 3},
        {"logit_bias": {4: 100.0}},
        {"repetition_penalty": 3.0, "prompt": tuple(range(100))},
        {"allowed_token_ids": (8,)},
    ]
    rows = [sampling.row(slot=i, logprobs=count, **case) for i, case in enumerate(cases)]
    logits = logits_of(len(rows))
    found = sampling.sample(logits.clone(), rows).to_host()
    exact = torch.log_softmax(logits.double(), dim=-1)
    for i, token in enumerate(found.token_ids):
        entry = found.entry(i, count)
        assert entry is not None
        assert entry.logprob == pytest.approx(exact[i, token].item(), abs=1e-5)
        assert entry.rank == int((exact[i] > exact[i, token]).sum()) + 1
        best = exact[i].topk(count)
        assert entry.top_ids == best.indices.tolist()
        assert entry.top_logprobs == pytest.approx(best.values.tolist(), abs=1e-5)


def test_rows_that_want_different_numbers_of_logprobs(sampling: Any) -> None:
    wanted = [None, 4, 0, None, 9]
    rows = [sampling.row(slot=i, logprobs=count) for i, count in enumerate(wanted)]
    found = sampling.sample(logits_of(5), rows).to_host()
    entries = [found.entry(i, count) for i, count in enumerate(wanted)]
    assert [None if entry is None else len(entry.top_ids) for entry in entries] == wanted


def test_no_more_logprobs_than_tokens(sampling: Any) -> None:
    entry = sampling.sample(logits_of(1, 6), [sampling.row(logprobs=20)]).to_host().entry(0, 20)
    assert entry is not None
    assert sorted(entry.top_ids) == list(range(6))


def test_logits_are_left_as_they_are_where_nothing_shapes_them(sampling: Any) -> None:
    logits = logits_of(2)
    given = logits.clone()
    sampling.sample(given, [sampling.row(top_k=5, logprobs=2), sampling.row(temperature=0.0, slot=1)])
    assert torch.equal(given, logits)


def test_a_slot_that_is_taken_over_starts_anew() -> None:
    """Sequences come, go, wait and return in four slots: a sampler with memory agrees with one that has none."""
    generator = torch.Generator().manual_seed(5)

    def number(high: int) -> int:
        return int(torch.randint(high, (), generator=generator))

    params = SamplingParams(repetition_penalty=1.3, frequency_penalty=0.4, presence_penalty=-0.5, max_tokens=None)
    shared = [1, 2, 3]
    lasting = Sampler(30, 4, torch.device("cpu"))
    running: list[tuple[int, list[int], list[int]] | None] = [None] * 4
    waiting: list[tuple[int, list[int], list[int]]] = []
    for _ in range(300):
        for slot in range(4):
            sequence = running[slot]
            if sequence is not None and number(12) == 0:
                running[slot] = None
                if number(2):
                    waiting.append(sequence)  # preempted: returns with its tokens, in whatever slot
            elif sequence is None:
                fresh = (number(3), shared if number(2) else [number(30) for _ in range(4)], list[int]())
                running[slot] = waiting.pop(0) if waiting and number(2) else fresh
        rows = [
            SampleRow(params, sequence[0], len(sequence[2]), slot, sequence[1], sequence[2])
            for slot, sequence in enumerate(running)
            if sequence is not None
        ]
        if not rows:
            continue
        logits = torch.randn(len(rows), 30, generator=generator)
        tokens = lasting.sample(logits.clone(), rows).token_ids.tolist()
        assert tokens == Sampler(30, 4, torch.device("cpu")).sample(logits.clone(), rows).token_ids.tolist()
        for row, token in zip(rows, tokens, strict=True):
            assert isinstance(row.output_ids, list)
            row.output_ids.append(token)
