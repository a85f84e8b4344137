"""The random numbers: even, independent along a sequence and between seeds and sequences, and the same for ever."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from lepton_engine.runtime.uniform import sequence_seed, uniform

COUNT = 20_000
SIDE = 8


def pairs_are_even(sampling: Any, first: Sequence[float], second: Sequence[float]) -> None:
    places = (np.array(first) * SIDE).astype(np.int64) * SIDE + (np.array(second) * SIDE).astype(np.int64)
    assert sampling.p_value(places, np.full(SIDE * SIDE, 1 / SIDE**2)) > 1e-7


@pytest.mark.parametrize("lag", [1, 2, 7])
@pytest.mark.parametrize("seed", [0, 123, 2**63 - 1])
def test_tokens_of_a_sequence_are_independent(sampling: Any, seed: int, lag: int) -> None:
    numbers = [uniform(seed, position) for position in range(COUNT + lag)]
    pairs_are_even(sampling, numbers[:-lag], numbers[lag:])


SEEDS: dict[str, Callable[[int], int]] = {
    "neighbours": lambda i: i,
    "from the top": lambda i: 2**63 - 1 - i,
    "in the high bits": lambda i: i << 40,
    "sequences of a request": lambda i: sequence_seed(99, i),
}


@pytest.mark.parametrize("kind", SEEDS)
@pytest.mark.parametrize("position", [0, 3])
def test_seeds_are_independent(sampling: Any, kind: str, position: int) -> None:
    numbers = [uniform(SEEDS[kind](i), position) for i in range(COUNT + 1)]
    pairs_are_even(sampling, numbers[:-1], numbers[1:])


def test_a_stream_is_not_another_one_shifted() -> None:
    seeds = [*range(20), 2**40, 2**63 - 1, *(sequence_seed(0, index) for index in range(1, 10))]
    numbers = [uniform(seed, position) for seed in seeds for position in range(2000)]
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= number < 1 for number in numbers)


def test_sequence_seeds_differ_and_the_first_is_the_requests_own() -> None:
    assert sequence_seed(17, 0) == 17
    seeds = {sequence_seed(seed, index) for seed in range(100) for index in range(64)}
    assert len(seeds) == 6400
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_numbers_stay_what_they_are() -> None:
    """A seed that someone kept gives the same text in the next version."""
    assert [uniform(0, 0), uniform(0, 1), uniform(42, 7)] == [
        0.6524484863740322,
        0.7012121095215252,
        0.7347204584623639,
    ]
