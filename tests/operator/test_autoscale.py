"""The decider, its clock in the test's hand."""

from collections.abc import Sequence
from typing import Any

import pytest

from lepton_operator.api.spec import Autoscaling
from lepton_operator.api.status import ScalingMode
from lepton_operator.autoscale import PATIENCE, Autoscaler, Decision, PodLoad, Sample, refused_streams


class Clocked:
    """An autoscaler that gets a sample a second."""

    def __init__(self, replicas: int = 1, **spec: Any) -> None:
        self.rule = Autoscaler(Autoscaling(**{"max_replicas": 100, "target_streams": 10, **spec}), replicas, 0.0)
        self.now = 0.0

    def feed(
        self, loads: Sequence[PodLoad | float], seconds: int = 1, *, silent: int = 0, ready: int | None = None
    ) -> Decision:
        pods = [load if isinstance(load, PodLoad) else PodLoad(load) for load in loads]
        for _ in range(seconds):
            self.now += 1
            count = len(pods) + silent if ready is None else ready
            decision = self.rule.decide(Sample(self.now, pods, silent, count))
        return decision


def test_the_sum_counts_and_not_the_mean() -> None:
    clocked = Clocked(4)
    assert clocked.feed([80, 0, 0, 0]).desired == 8


def test_it_stays_within_its_bounds() -> None:
    clocked = Clocked(1, max_replicas=3, min_replicas=2)
    assert clocked.rule.desired == 2
    assert clocked.feed([1000]).desired == 3
    assert clocked.feed([0], 3600).desired == 2


def test_a_step_of_ten_is_followed_within_seconds() -> None:
    clocked = Clocked(2)
    clocked.feed([10, 10], 120)
    decision = clocked.feed([100, 100], 5)
    assert decision.desired >= 15
    assert decision.mode is ScalingMode.PANIC


def test_a_slow_rise_is_no_panic() -> None:
    clocked = Clocked(2)
    clocked.feed([10, 10], 120)
    decision = clocked.feed([15, 15], 120)
    assert decision.mode is ScalingMode.STABLE
    assert decision.desired == 3


def test_panic_lasts_for_the_stable_time_and_never_goes_down() -> None:
    clocked = Clocked(2, scale_down_seconds=0)
    clocked.feed([10, 10], 60)
    peak = clocked.feed([200, 200], 10).desired
    for _ in range(50):
        decision = clocked.feed([0, 0])
        assert decision.mode is ScalingMode.PANIC
        assert decision.desired == peak
    assert clocked.feed([0, 0], 120).desired == 1


def test_down_by_the_most_of_the_window() -> None:
    clocked = Clocked(10, scale_down_seconds=300)
    clocked.feed([100], 400)
    clocked.feed([0], 100)
    assert clocked.feed([60], 30).desired == 10
    assert clocked.feed([0], 150).desired == 10
    assert clocked.feed([0], 300).desired == 1


def test_a_new_leader_does_not_go_down_before_it_has_seen_the_window() -> None:
    clocked = Clocked(10, scale_down_seconds=300)
    assert clocked.feed([0], 299).desired == 10
    assert clocked.feed([0], 2).desired == 1


def test_replicas_fall_once_nothing_has_asked_for_them_for_long() -> None:
    """45 streams fit five replicas of ten, but not for sure; after a long time it is sure enough."""
    clocked = Clocked(6, scale_down_seconds=10)
    assert clocked.feed([45], 10 * PATIENCE - 1, ready=6).desired == 6
    assert clocked.feed([45], 20, ready=6).desired == 5


def test_with_some_pods_silent_it_goes_up_on_the_known_sum_and_never_down() -> None:
    clocked = Clocked(3)
    clocked.feed([10, 10, 10], 60)
    assert clocked.feed([0, 0], 3600, silent=1).desired == 3
    assert clocked.feed([40, 40], 60, silent=1).desired >= 8


def test_with_none_known_nothing_changes() -> None:
    clocked = Clocked(3)
    clocked.feed([10, 10, 10], 60)
    decision = clocked.feed([], 3600, silent=3)
    assert decision.desired == 3
    assert decision.load is None


def test_memory_counts_up_and_down() -> None:
    clocked = Clocked(2, target_kv_percent=80)
    full = PodLoad(1, kv=0.96)
    assert clocked.feed([full, full], 60).desired == 3
    empty = PodLoad(1, kv=0.1)
    assert clocked.feed([empty] * 3, 3600).desired == 1


def test_refusals_are_load() -> None:
    """A bounded queue hides what it refuses: the rest shows in what it counts."""
    clocked = Clocked(1)
    assert clocked.feed([PodLoad(10, refused=40)], 10).desired == 5
    assert refused_streams(100, 120, 2.0, 3.0) == 30.0
    assert refused_streams(100, 20, 2.0, 3.0) == 30.0, "a server that started anew counts from nothing"
    assert refused_streams(1, 2, 0.0, 3.0) == 0.0


def test_a_queue_that_grew_while_pods_started_does_not_keep_them_afterwards() -> None:
    def pods(count: int, waiting: int) -> list[PodLoad]:
        return [PodLoad(8 + waiting / count, arrivals=8 / count, service=10.0, waiting=waiting / count)] * count

    clocked = Clocked(10, scale_down_seconds=300)
    clocked.feed(pods(10, 0), 300)
    peak = clocked.feed(pods(10, 1000), 60).desired
    assert peak > 50
    after = clocked.feed(pods(10, 0), 420).desired
    assert after <= 12


def test_long_streams_count_though_none_has_ended() -> None:
    clocked = Clocked(10, scale_down_seconds=60)
    long_running = PodLoad(100, arrivals=0.0, service=1.0)
    assert clocked.feed([long_running], 3600).desired == 10


@pytest.mark.parametrize("replicas", [0, 1, 7])
def test_no_pods_no_change(replicas: int) -> None:
    clocked = Clocked(replicas)
    assert clocked.feed([], 100, ready=0).desired == max(1, replicas)
