"""What is refused and why: the queue's bounds, time in it, deadlines; and the delay that is told."""

from typing import Any

import pytest

from lepton_engine.core.admission import Load
from lepton_engine.core.drain_rate import DrainRate
from lepton_engine.core.request import Request
from lepton_engine.core.speed import LEAST_SAMPLES, WINDOW, Speed, tokens_needed
from lepton_engine.errors import (
    DeadlineExceededError,
    DeadlineUnattainableError,
    QueueFullError,
)
from lepton_engine.sampling_params import SamplingParams
from tests.engine.core.loop import Loop

# -- the queue's bounds ------------------------------------------------------------------------------------------


def test_a_queue_of_zero_takes_what_can_start_and_nothing_else() -> None:
    loop = Loop(max_num_seqs=3, max_queued_requests=0)
    for _ in range(3):
        loop.add([1], max_tokens=5)  # All before a step: they will start in the next.
    with pytest.raises(QueueFullError):
        loop.add([1])
    loop.step()
    with pytest.raises(QueueFullError):
        loop.add([1])
    loop.run()
    loop.add([1])
    loop.run()
    assert loop.scheduler.admission.rejected == {"QueueFullError": 2}


def test_what_starts_at_once_does_not_count_as_queued() -> None:
    loop = Loop(max_num_seqs=4, max_queued_requests=2)
    for _ in range(6):
        loop.add([1], max_tokens=5)
    with pytest.raises(QueueFullError, match="6 requests"):
        loop.add([1])
    loop.step()
    assert loop.scheduler.num_waiting == 2
    with pytest.raises(QueueFullError, match="2 requests"):
        loop.add([1])


def test_nobody_is_refused_for_what_others_have_queued() -> None:
    """A flood fills the queue; another tenant still finds its equal part of it, and no more than that."""
    loop = Loop(max_num_seqs=1, max_queued_requests=6)
    for _ in range(6):
        loop.add([1], tenant="flood", max_tokens=9)
    loop.step()
    loop.add([1], tenant="flood")
    with pytest.raises(QueueFullError):
        loop.add([1], tenant="flood")
    for _ in range(3):
        loop.add([1], tenant="other")
    with pytest.raises(QueueFullError):
        loop.add([1], tenant="other")
    for _ in range(2):
        loop.add([1], tenant="third")
    with pytest.raises(QueueFullError):
        loop.add([1], tenant="third")
    loop.run()
    loop.assert_drained()


def test_the_bound_in_tokens_leaves_each_tenant_its_part_too() -> None:
    loop = Loop(max_num_seqs=1, max_queued_tokens=20)
    loop.add([1], tenant="flood", max_tokens=9)
    loop.step()
    for _ in range(2):
        loop.add([1] * 10, tenant="flood")
    with pytest.raises(QueueFullError):
        loop.add([1], tenant="flood")
    loop.add([1] * 10, tenant="other")
    with pytest.raises(QueueFullError):
        loop.add([1], tenant="other")


# -- the delay to retry ------------------------------------------------------------------------------------------


def test_the_delay_is_a_second_before_anything_was_measured() -> None:
    loop = Loop(max_num_seqs=1, max_queued_requests=1)
    loop.add([1], max_tokens=50)
    loop.step()
    loop.add([1])
    with pytest.raises(QueueFullError) as refusal:
        loop.add([1])
    assert refusal.value.retry_after == 1.0


def test_the_delay_follows_from_how_fast_the_queue_drains() -> None:
    loop = Loop(max_num_seqs=1, max_queued_requests=4)
    for _ in range(5):
        loop.add([1], max_tokens=5)
    for _ in range(200):  # One leaves the queue every five steps of a second each.
        loop.step()
        if loop.scheduler.num_waiting < 4:
            loop.add([1], max_tokens=5)
    with pytest.raises(QueueFullError) as refusal:
        loop.add([1])
    assert refusal.value.retry_after == pytest.approx(5, rel=0.4)


def test_the_delay_of_a_long_prompt_is_that_of_the_tokens_it_lacks() -> None:
    drain = DrainRate()
    drain.tick(0.0, True)
    for second in range(1, 200):
        drain.left(100)
        drain.tick(float(second), True)
    assert drain.retry_after(1, 100) == pytest.approx(1, rel=0.1)
    assert drain.retry_after(1, 1000) == pytest.approx(10, rel=0.1)
    assert drain.least_wait(3, 1000) == pytest.approx(3, rel=0.1)


def test_a_queue_that_nothing_leaves_is_waited_for_as_long_as_it_was_watched_within_bounds() -> None:
    drain = DrainRate()
    drain.tick(0.0, True)
    drain.tick(7.0, True)
    assert drain.retry_after(1) == pytest.approx(7)
    drain.tick(10_000.0, True)
    assert drain.retry_after(1000) == 60
    assert drain.least_wait(5, 5) == 0  # Nothing was measured that could tell.


def test_time_without_a_queue_does_not_count() -> None:
    drain = DrainRate()
    drain.tick(0.0, True)
    for second in range(1, 20):
        drain.left(1)
        drain.tick(float(second), True)
    before = drain.wait(1)
    drain.tick(20.0, False)
    drain.left(1)
    drain.tick(10_000.0, False)
    after = drain.wait(1)
    assert before is not None
    assert after == pytest.approx(before, rel=0.1)


# -- time in the queue -------------------------------------------------------------------------------------------


def test_who_has_waited_too_long_is_refused_and_nobody_who_runs() -> None:
    loop = Loop(max_num_seqs=1, max_queue_time=5)
    runs = loop.add([1], max_tokens=30)
    waits, hurries = loop.add([2], max_tokens=3), loop.add([3], max_queue_time=2)
    patient = loop.add([3], max_queue_time=1000)
    loop.run()
    loop.assert_right(runs)
    for request in (waits, hurries, patient):  # The server's own bound holds for the patient one, too.
        assert loop.told[request.key].error == "QueueTimeoutError"
        assert loop.told[request.key].cached < 0
    assert loop.scheduler.admission.rejected == {"QueueTimeoutError": 3}
    assert loop.scheduler.admission.capacity_rejected == 3
    assert loop.scheduler.finished == {"length": 1}
    loop.assert_drained()


def test_a_request_that_was_preempted_before_its_first_token_is_not_refused() -> None:
    loop = Loop(max_num_seqs=1, budget=4, max_queue_time=3)
    late = loop.add([1] * 20, max_tokens=2, priority=5)
    loop.step()
    loop.add([2] * 20, max_tokens=10)
    loop.run()
    assert late.num_preemptions == 1
    loop.assert_right(late)


# -- deadlines ---------------------------------------------------------------------------------------------------


def measured_loop(**kwargs: Any) -> Loop:
    """A loop whose speed is known: eight prompt tokens a second, a token a second."""
    loop = Loop(budget=8, measured=True, **kwargs)
    for token in range(3):
        loop.add([token] * 36, max_tokens=16)
        loop.run()
    assert loop.scheduler.admission.speed.prompt_tokens_per_second == 8
    assert loop.scheduler.admission.speed.seconds_per_token == 1
    return loop


def test_a_deadline_that_an_idle_engine_misses_is_refused_without_a_delay() -> None:
    loop = measured_loop(caching=False)
    with pytest.raises(DeadlineUnattainableError, match=r"the deadline is in 4\.000 s") as refusal:
        loop.add([2, 3] * 20, deadline=loop.now + 4, stop=[0])
    assert refusal.value.retry_after is None
    assert refusal.value.details == {
        "estimate_seconds": "5.000",
        "estimate_idle_seconds": "5.000",
        "remaining_seconds": "4.000",
    }
    loop.add([2, 3] * 20, deadline=loop.now + 6, stop=[0])
    assert loop.scheduler.admission.rejected == {"DeadlineUnattainableError": 1}
    assert loop.scheduler.admission.capacity_rejected == 0  # A further server would not help.


def test_only_tokens_that_an_output_must_have_count() -> None:
    loop = measured_loop()
    with pytest.raises(DeadlineUnattainableError):  # Nothing can end it before.
        loop.add([2], max_tokens=50, deadline=loop.now + 20)
    with pytest.raises(DeadlineUnattainableError):
        loop.add([2], max_tokens=50, min_tokens=30, stop=[0], deadline=loop.now + 20)
    loop.add([2], max_tokens=50, stop=[0], deadline=loop.now + 20)
    loop.add([2], max_tokens=50, min_tokens=5, stop=[0], deadline=loop.now + 20)
    loop.add([2], max_tokens=10, deadline=loop.now + 20)


def test_a_cached_prompt_takes_no_time() -> None:
    loop = measured_loop()
    loop.add([2, 3] * 18, max_tokens=1)
    loop.run()
    with pytest.raises(DeadlineUnattainableError):
        loop.add([3, 2] * 18, max_tokens=1, deadline=loop.now + 3)
    again = loop.add([2, 3] * 18, max_tokens=1, deadline=loop.now + 3)
    loop.run()
    loop.assert_right(again)


def test_a_deadline_that_the_queue_does_not_leave_is_refused_with_a_delay() -> None:
    loop = measured_loop(max_num_seqs=1)
    for _ in range(20):
        loop.add([1], max_tokens=8)
    for _ in range(60):  # One leaves the queue every eight seconds.
        loop.step()
    with pytest.raises(DeadlineUnattainableError) as refusal:
        loop.add([2] * 4, max_tokens=1, deadline=loop.now + 12)
    assert refusal.value.retry_after is not None
    assert refusal.value.retry_after > 20
    assert float(refusal.value.details["estimate_idle_seconds"]) == 0.5
    loop.add([2] * 4, max_tokens=1, deadline=loop.now + 12, tenant="other")  # It has nothing before it.
    loop.add([2] * 4, max_tokens=1, deadline=loop.now + 300)
    assert loop.scheduler.admission.capacity_rejected == 1


def test_nothing_is_refused_before_the_speed_is_known() -> None:
    loop = Loop(budget=4)
    loop.add([1] * 40, max_tokens=40, deadline=loop.now + 1e-6)
    loop.run()


@pytest.mark.parametrize("ago", [0.0, 3.0])
def test_a_passed_deadline_is_refused_on_arrival(ago: float) -> None:
    loop = Loop()
    loop.now = 10.0
    with pytest.raises(DeadlineExceededError, match=f"had passed by {ago:.3f} s on arrival"):
        loop.add([1], deadline=10.0 - ago)
    assert loop.scheduler.finished == {"abort": 1}
    loop.assert_drained()


def request(**kwargs: object) -> Request:
    params = SamplingParams(min_tokens=kwargs.pop("min_tokens", 0), stop=kwargs.pop("stop", ()))  # type: ignore[arg-type]
    return Request("r", [1] * 10, params, 0, 0.0, 0, **{"max_tokens": 20, **kwargs})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "needed"),
    [
        (request(), 20),
        (request(max_tokens=0), 0),
        (request(stop_token_ids=frozenset({1})), 1),
        (request(stop=("end",)), 1),
        (request(stop_token_ids=frozenset({1}), min_tokens=7), 7),
        (request(stop_token_ids=frozenset({1}), min_tokens=7, max_tokens=5), 5),
    ],
)
def test_tokens_that_an_output_has_at_least(made: Request, needed: int) -> None:
    assert tokens_needed(made) == needed


def test_speed_is_that_of_the_second_fastest_step_of_late() -> None:
    speed = Speed()
    for _ in range(LEAST_SAMPLES - 1):
        speed.observe(1.0, 100, 0, 0)
        speed.observe(0.1, 0, 4, 4)
    assert speed.shortest(request(), 0) is None
    speed.observe(0.001, 100, 0, 0)
    speed.observe(0.0001, 0, 4, 4)
    assert speed.prompt_tokens_per_second == 100
    assert speed.seconds_per_token == 0.1
    assert speed.shortest(request(), 0) == pytest.approx(0.1 + 19 * 0.1)
    assert speed.shortest(request(), 10) == pytest.approx(19 * 0.1)
    for _ in range(WINDOW):
        speed.observe(0.2, 0, 4, 8)  # Drafts that come true make two tokens of a step.
        speed.observe(2.0, 100, 4, 4)
        speed.observe(0.0, 100, 0, 0)
    assert speed.prompt_tokens_per_second == 50
    assert speed.seconds_per_token == pytest.approx(0.1)


def test_load_knows_what_starts_at_once() -> None:
    def starts(waiting: int, tokens: int, backlog: bool = False) -> bool:
        return Load(waiting, tokens, 0, 0, 4, 32, backlog).starts_at_once(request())

    assert starts(0, 0)
    assert starts(3, 22)
    assert not starts(3, 23)
    assert not starts(4, 4)
    assert not starts(0, 0, backlog=True)
