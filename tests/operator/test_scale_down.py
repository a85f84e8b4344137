"""Scaling down in its order."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from lepton_operator.observed import Deployment
from lepton_operator.scale_down import scale_step

Make = Callable[..., Any]


@pytest.fixture
def deployment() -> Make:
    def make(replicas: int, *, seen: bool = True, total: int | None = None, updated: int | None = None) -> Deployment:
        count = replicas if total is None else total
        status = {
            "observedGeneration": 2 if seen else 1, "replicas": count,
            "updatedReplicas": count if updated is None else updated, "readyReplicas": count,
            "availableReplicas": count,
        }  # fmt: skip
        metadata = {"name": "m", "namespace": "ns", "generation": 2}
        return msgspec.convert({"metadata": metadata, "spec": {"replicas": replicas}, "status": status}, Deployment)

    return make


def names_of(pods: Any) -> list[str]:
    return [pod.metadata.name for pod in pods]


def test_up_at_once(deployment: Make, pod: Make) -> None:
    assert scale_step(deployment(1), [pod("a")], 5, None, False).replicas == 5


def test_the_pods_are_asked_first(deployment: Make, pod: Make) -> None:
    step = scale_step(deployment(2), [pod("a"), pod("b")], 1, None, False)
    assert step.needs_loads
    assert step.replicas == 2


def test_the_pod_with_the_fewest_streams_is_marked_then_replicas_fall(deployment: Make, pod: Make) -> None:
    pods = [pod("a"), pod("b"), pod("c")]
    step = scale_step(deployment(3), pods, 2, {"a": 5, "b": 1, "c": 9}, False)
    assert names_of(step.mark) == ["b"]
    assert step.replicas == 3
    pods[1] = pod("b", marked=True)
    step = scale_step(deployment(3), pods, 2, None, False)
    assert step.replicas == 2
    assert not step.mark


def test_a_mark_stands_though_the_load_has_moved(deployment: Make, pod: Make) -> None:
    """Else a load that wavers would put it off for ever."""
    pods = [pod("a", marked=True), pod("b"), pod("c")]
    assert scale_step(deployment(3), pods, 2, {"a": 9, "b": 0, "c": 0}, False).replicas == 2


def test_marks_follow_a_target_that_moves(deployment: Make, pod: Make) -> None:
    pods = [pod("a", marked=True), pod("b"), pod("c")]
    step = scale_step(deployment(3), pods, 1, {"a": 1, "b": 2, "c": 3}, False)
    assert names_of(step.mark) == ["b"]
    pods = [pod("a", marked=True), pod("b", marked=True), pod("c")]
    step = scale_step(deployment(3), pods, 2, {"a": 2, "b": 1, "c": 3}, False)
    assert names_of(step.clear) == ["a"]
    assert step.replicas == 3


def test_silent_pods_go_last(deployment: Make, pod: Make) -> None:
    step = scale_step(deployment(2), [pod("a"), pod("b")], 1, {"b": 100}, False)
    assert names_of(step.mark) == ["b"]


def test_it_waits_for_a_rollout(deployment: Make, pod: Make) -> None:
    pods = [pod("a", revision="x"), pod("b", revision="y")]
    step = scale_step(deployment(2), pods, 1, {}, False)
    assert step.replicas == 2
    assert step.held
    assert scale_step(deployment(2), pods, 1, {}, True).replicas == 1, "a rollout that is stuck must not hold it"


def test_it_waits_until_the_last_change_is_seen(deployment: Make, pod: Make) -> None:
    step = scale_step(deployment(2, seen=False), [pod("a"), pod("b")], 1, {}, False)
    assert step.replicas == 2
    assert step.held


def test_pods_that_do_not_serve_go_without_marks(deployment: Make, pod: Make) -> None:
    pods = [pod("a"), pod("b", ready=False), pod("c", ready=False)]
    assert scale_step(deployment(3), pods, 2, None, False).replicas == 2
    assert scale_step(deployment(3), pods, 1, None, False).replicas == 1
    pods = [pod("a"), pod("b"), pod("c", ready=False)]
    assert scale_step(deployment(3), pods, 1, None, False).replicas == 2


def test_pods_that_are_missing_count(deployment: Make, pod: Make) -> None:
    assert scale_step(deployment(3), [pod("a")], 1, None, False).replicas == 1


def test_a_stop_needs_no_order(deployment: Make, pod: Make) -> None:
    assert scale_step(deployment(2, seen=False), [pod("a"), pod("b")], 0, None, False).replicas == 0


def test_a_mark_is_cleared_once_the_change_is_carried_out(deployment: Make, pod: Make) -> None:
    marked = [pod("a", marked=True), pod("b")]
    early = scale_step(deployment(2, seen=False), marked, 2, None, False)
    assert not early.clear
    assert names_of(scale_step(deployment(2), marked, 2, None, False).clear) == ["a"]
    still = scale_step(deployment(1, total=2), marked, 1, None, False)
    assert not still.clear, "the ReplicaSet has not chosen yet"
