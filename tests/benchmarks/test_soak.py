"""The soak: its plan and limits, and a short one that must leave nothing behind."""

import resource

import pytest

from benchmarks import soak
from benchmarks.stub_engine import FIRST_ID, IDS, WRAP, age, stamp


def test_the_plan_has_a_tenth_slow_a_twentieth_killed_and_phases_of_a_minute() -> None:
    plan = soak.plan(1000, 256, 600.0)
    assert (plan.healthy, plan.slow, plan.killed) == (219, 25, 12)
    assert (plan.cycles, plan.seconds) == (5, 60.0)
    assert soak.plan(30, 20, 8.0).seconds == 2.0


def test_too_few_files_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 500))
    with pytest.raises(soak.FileLimitError, match="2200 open files are needed, the hard limit is 500"):
        soak.raise_file_limit(2200)


def test_the_soft_limit_of_files_is_raised_to_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 5000))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: given.append(limits))
    soak.raise_file_limit(2200)
    assert given == [(5000, 5000)]


def test_a_stamp_is_a_token_id_and_tells_its_age() -> None:
    token = stamp()
    assert FIRST_ID <= token < FIRST_ID + IDS
    assert 0 <= age(token) < WRAP


@pytest.mark.slow
def test_a_short_soak_fails_nobody_and_leaves_nothing_behind() -> None:
    failures, rows, _ = soak.soak(soak.plan(24, 20, 4.0), figures=False)
    assert failures == []
    figures = {row.work: row.value for row in rows}
    assert figures["healthy streams finished"] > 0
    assert figures["client processes killed"] >= 2
