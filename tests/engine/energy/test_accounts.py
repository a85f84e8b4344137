"""Energy on its way from the loop to a request's metrics."""

import time

import pytest

from lepton_engine.assembly import RequestAssembler
from lepton_engine.core.events import NewTokens, Preempted, Spent, Started
from lepton_engine.energy.ledger import EnergyLedger
from lepton_engine.messages import Abort, Submit
from lepton_engine.outputs import RequestMetrics, RequestOutput
from lepton_engine.sampling_params import OutputKind, SamplingParams
from lepton_engine.step import EngineCore
from tests.engine.core.loop import Loop
from tests.engine.core.test_step import INFO, PROMPT, Runner


class Hot:
    """A counter that grows by one joule a reading."""

    source = "fake"

    def __init__(self) -> None:
        self.readings = 0.0

    def joules(self) -> float:
        self.readings += 1
        return self.readings


def core(overlap: bool) -> tuple[EngineCore, EnergyLedger]:
    loop = Loop(overlap=overlap)
    ledger = EnergyLedger(Hot(), time.monotonic() - 1.0)
    return EngineCore(loop.scheduler, Runner(loop), INFO, overlap=overlap, energy=ledger), ledger


def submit(engine: EngineCore, key: str, max_tokens: int = 4, stop: tuple[str, ...] = (), n: int = 1) -> None:
    params = SamplingParams(n=n, stop=list(stop))
    engine.handle(
        "me",
        Submit(
            key=key, prompt_token_ids=PROMPT, params=params, seed=1, max_tokens=max_tokens, stop_token_ids=[],
            bad_word_ids=[],
        ),
    )  # fmt: skip


def run(engine: EngineCore, steps: int = 40) -> list[object]:
    told: list[object] = []
    for _ in range(steps):
        engine.step()
        for replies in engine.take_replies().values():
            told += replies
    return told


@pytest.mark.parametrize("overlap", [False, True])
def test_every_request_is_told_before_its_end_and_nothing_is_remembered(overlap: bool) -> None:
    engine, ledger = core(overlap)
    for number in range(3):
        submit(engine, str(number), n=1 + number)
    told = run(engine)
    for number in range(3):
        kinds = [
            "spent" if isinstance(event, Spent) else "end"
            for event in told
            if (isinstance(event, Spent) and event.key == str(number))
            or (isinstance(event, NewTokens) and event.key == str(number) and event.finish_reason)
        ]
        assert kinds[0] == "spent"
        assert kinds.count("end") == 1 + number
    assert all(event.joules >= 0 for event in told if isinstance(event, Spent))
    assert ledger.accounts == 0
    stats = engine.stats()
    assert stats.energy_source == "fake"
    assert stats.energy_joules is not None
    assert stats.attributed_joules is not None
    assert stats.attributed_joules > 0


@pytest.mark.parametrize("overlap", [False, True])
def test_requests_that_are_aborted_are_forgotten(overlap: bool) -> None:
    engine, ledger = core(overlap)
    submit(engine, "a", max_tokens=30)
    run(engine, 3)
    engine.handle("me", Abort(key="a"))
    run(engine, 3)
    assert ledger.accounts == 0


def test_who_may_end_by_a_stop_string_is_told_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lepton_engine.energy.ledger.INTERVAL_SECONDS", 0.0)
    engine, _ = core(False)
    submit(engine, "stops", max_tokens=9, stop=("x",))
    submit(engine, "runs", max_tokens=9)
    told = [event.key for event in run(engine) if isinstance(event, Spent)]
    assert told.count("runs") == 1
    assert told.count("stops") > 3


def test_an_engine_without_a_counter_tells_none() -> None:
    loop = Loop(overlap=False)
    engine = EngineCore(loop.scheduler, Runner(loop), INFO, overlap=False)
    submit(engine, "a")
    assert not [event for event in run(engine) if isinstance(event, Spent)]
    assert engine.stats().energy_joules is None


def test_metrics_of_a_request_have_its_preemptions_and_its_energy() -> None:
    output = RequestOutput("r", None, [1], [], False, metrics=RequestMetrics(1.0))
    params = SamplingParams(output_kind=OutputKind.DELTA)
    assembler = RequestAssembler(output, params, None, [])
    for event in (Started("k", 0, 2.0), Preempted("k", 3.0), Preempted("k", 4.0), Spent("k", 0.25)):
        assembler.feed(event)
    assembler.feed(NewTokens("k", 0, [5], None, "length", None, 5.0))
    told = assembler.take()
    assert told is not None
    assert told.metrics == RequestMetrics(1.0, 2.0, 5.0, 5.0, (3.0, 4.0), 0.25)
    assert told.metrics.num_preemptions == 2
