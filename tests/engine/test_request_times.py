"""Deadlines, limits and time in the queue through the front door."""

import math
import time
from collections.abc import Callable

import pytest

from lepton_engine import LeptonEngine, SamplingParams
from lepton_engine.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    QueueTimeoutError,
    TenantConcurrencyError,
    error_of,
)

GREEDY = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True)
Make = Callable[..., LeptonEngine]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deadline": math.nan}, "deadline: nan is not a time"),
        ({"deadline": math.inf}, "deadline: inf is not a time"),
        ({"time_limit": -1.0}, r"time_limit: -1\.0 is not a time of at least 0 seconds"),
        ({"max_queue_time": -0.5}, r"max_queue_time: -0\.5 is not a time of at least 0 seconds"),
        ({"max_queue_time": math.nan}, "max_queue_time: nan is not a time"),
    ],
)
def test_times_that_are_none(engine_over: Make, options: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        engine_over().generate([1], GREEDY, **options)


@pytest.mark.parametrize("ago", [0.0, 100.0])
def test_a_passed_deadline_fails(engine_over: Make, ago: float) -> None:
    with pytest.raises(DeadlineExceededError, match=r"the deadline had passed by .* on arrival"):
        engine_over().generate([1], GREEDY, deadline=time.monotonic() - ago)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_bound_of_the_time_in_the_queue_that_is_none(engine_over: Make, value: float) -> None:
    with pytest.raises(InvalidRequestError, match=r"max_queue_time: .* is not a time above 0 seconds"):
        engine_over(max_queue_time=value)


def test_time_in_the_queue_and_its_figures_cross_the_loop(engine_over: Make) -> None:
    engine = engine_over(max_num_seqs=1)
    stream = engine.stream([1], SamplingParams(max_tokens=400, ignore_eos=True))
    next(stream)
    with pytest.raises(QueueTimeoutError, match="it waited for") as refused:
        engine.generate([2], GREEDY, max_queue_time=1e-3)
    assert refused.value.retry_after is not None
    del stream  # Which ends the request.
    stats = engine.stats()
    assert (stats.rejected_queue_timeout, stats.num_rejected) == (1, 1)


def test_errors_cross_processes_by_name() -> None:
    assert type(error_of("TenantConcurrencyError", "no")) is TenantConcurrencyError
    error = error_of("InvalidRequestError", "prompt: is empty")
    assert isinstance(error, InvalidRequestError)
    assert (error.field, error.reason) == ("prompt", "is empty")
    assert str(error_of("NoSuchError", "what")) == "what"
    assert str(error_of("Any", "what")) == "what"
