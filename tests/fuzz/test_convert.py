"""The corpus once more, and ten seconds of fuzzing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import convert
from tests.fuzz.mutate import Mutator
from tests.fuzz.seeds import corpus, seeds
from tests.fuzz.target import METHODS, FoundError, Target


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    import logging

    made = Target()
    yield made
    made.loop.close()
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("path", corpus(), ids=lambda path: path.stem)
def test_what_was_found_once(path: Path, target: Target) -> None:
    target.run(path.read_bytes())


def test_seeds_are_taken(target: Target) -> None:
    made = list(seeds())
    assert {data[0] for data in made} == set(range(len(METHODS)))
    for data in made:
        target.run(data)


def test_a_fault_is_found(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lepton_service.converters.sampling.priority", lambda request: 1 // 0)
    with pytest.raises(FoundError, match="answered 13"):
        target.run(next(seeds()))


def test_mutations_are_repeatable_and_mostly_decode() -> None:
    data = next(seeds())
    made = [Mutator(lambda part: part, seed).mutate(data) for seed in range(200)]
    assert made == [Mutator(lambda part: part, seed).mutate(data) for seed in range(200)]
    assert len(set(made)) > 100
    kind = METHODS[0][1]
    assert sum(data[0] == 0 and kind.FromString(data[1:]) is not None for data in made) > 150


def test_ten_seconds(tmp_path: Path) -> None:
    outcome = convert.fuzz(10, 1, tmp_path)
    assert outcome.found == [], "\n".join(text for _, text in outcome.found)
    assert outcome.executions > 100
