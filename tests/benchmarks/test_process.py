import os

import pytest

from benchmarks.systems.process import SystemProcess
from benchmarks.works import Work


class Counting:
    def __init__(self, base: int) -> None:
        self._base = base

    def run(self, work: Work) -> dict[str, float]:
        print("whatever a peer prints")
        if work.name == "bad":
            raise ValueError("no such work")
        if work.name == "gone":
            os._exit(3)
        return {"tokens": float(self._base + sum(map(len, work.prompts))), "out": float(work.generated)}


def make(base: int) -> Counting:
    return Counting(base)


def system() -> SystemProcess:
    make.__module__ = "tests.benchmarks.test_process"
    return SystemProcess("counting", make, {"base": 10}, 1)


def test_works_travel_and_counters_come_back() -> None:
    with system() as process:
        seconds, counters = process.run(Work("w", ((1, 2), (3,)), (4, 5)))
        assert counters == {"tokens": 13.0, "out": 9.0}
        assert seconds > 0
        assert process.peak_rss_mb() > 1


@pytest.mark.parametrize(("name", "said"), [("bad", "ValueError: no such work"), ("gone", "has ended")])
def test_failures_are_told(name: str, said: str) -> None:
    with system() as process, pytest.raises(RuntimeError, match=said):
        process.run(Work(name, (), ()))
