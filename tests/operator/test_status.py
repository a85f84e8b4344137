"""Conditions and their reasons."""

from collections.abc import Callable
from typing import Any

import pytest

from lepton_operator import names
from lepton_operator.api import LeptonModelStatus, Reason
from lepton_operator.api.status import AutoscalingStatus
from lepton_operator.plan import Observed
from lepton_operator.status import Outcome, Scaling, status, transitions, unreadable_status
from tests.operator.conftest import HUB, World

Make = Callable[..., Any]
NOW = "2026-01-01T00:00:00Z"
GPU: dict[str, Any] = {"gpu": {}}


def conditions(world: World, made: Any, target: int | None = None, outcome: Outcome | None = None, **more: Any) -> Any:
    planned = world.plan(made, target)
    observed = Observed(made, world.children, world.pods, world.fetch_pods, more.pop("mount_failures", {}))
    found = status(observed, planned, outcome or Outcome(), more.pop("scaling", None), world.settings, NOW)
    return {c.type: c for c in found.conditions}


def verdict(found: Any, kind: str) -> tuple[str, str]:
    return found[kind].status, found[kind].reason


@pytest.fixture
def settled(world: World, model: Make) -> World:
    world.apply(world.plan(model()))
    world.settle()
    return world


def test_a_new_model_is_being_made(world: World, model: Make) -> None:
    found = conditions(world, model())
    assert verdict(found, "Ready") == ("False", "Creating")
    assert verdict(found, "Progressing") == ("True", "Creating")
    assert verdict(found, "Available") == ("False", "NoPodServing")
    assert verdict(found, "Degraded") == ("False", "AsExpected")
    assert verdict(found, "ScalingActive") == ("False", "NotConfigured")
    assert verdict(found, "ModelCached") == ("True", "NotNeeded")


def test_settled(settled: World, model: Make) -> None:
    found = conditions(settled, model())
    assert verdict(found, "Ready") == ("True", "AllReplicasReady")
    assert verdict(found, "Available") == ("True", "PodsServing")
    assert verdict(found, "Progressing") == ("False", "Settled")


def test_stopped(world: World, model: Make) -> None:
    world.apply(world.plan(model(replicas=0)))
    world.settle()
    found = conditions(world, model(replicas=0))
    assert verdict(found, "Ready") == ("True", "Stopped")
    assert verdict(found, "Available") == ("False", "Stopped")


def test_not_ready_while_old_pods_serve(settled: World, model: Make) -> None:
    settled.set_status(
        "Deployment", "m", observedGeneration=1, replicas=2, updatedReplicas=1, readyReplicas=1, availableReplicas=1
    )
    found = conditions(settled, model())
    assert verdict(found, "Available") == ("True", "PodsServing")
    assert verdict(found, "Ready") == ("False", "RollingOut")


def test_not_ready_before_the_change_is_applied(settled: World, model: Make) -> None:
    assert verdict(conditions(settled, model(replicas=2)), "Ready")[0] == "False"


INSUFFICIENT = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        ({"unschedulable": INSUFFICIENT}, "InsufficientGPU"),
        ({"unschedulable": "0/2 nodes are available: 2 Insufficient cpu."}, "Unschedulable"),
        ({"unschedulable": 'persistentvolumeclaim "x" not found'}, "VolumeNotFound"),
        ({"containers": [{"name": "server", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}, "ImagePull"),
        (
            {"containers": [{"name": "server", "state": {"waiting": {"reason": "CreateContainerConfigError"}}}]},
            "SecretNotFound",
        ),
        (
            {
                "containers": [
                    {
                        "name": "server",
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"exitCode": 1, "message": "no driver"}},
                    }
                ]
            },
            "CrashLooping",
        ),
    ],
)
def test_what_keeps_pods_from_serving(world: World, model: Make, pod: Make, make: dict[str, Any], reason: str) -> None:
    world.apply(world.plan(model(**GPU)))
    world.set_status("Deployment", "m", observedGeneration=1, replicas=1, updatedReplicas=1)
    world.pods = [pod("p", ready=False, **make)]
    found = conditions(world, model(**GPU))
    assert verdict(found, "Degraded") == ("True", reason)
    assert verdict(found, "Ready") == ("False", reason)
    if reason == "CrashLooping":
        assert found["Degraded"].message == "no driver"


def test_a_secret_that_cannot_be_mounted(world: World, model: Make, pod: Make) -> None:
    world.apply(world.plan(model()))
    world.pods = [pod("p", ready=False)]
    failures = {"p": 'MountVolume.SetUp failed for volume "tls" : secret "pair" not found'}
    assert verdict(conditions(world, model(), mount_failures=failures), "Degraded") == ("True", "SecretNotFound")
    failures = {"p": "MountVolume.SetUp failed for volume models: no such device"}
    assert verdict(conditions(world, model(), mount_failures=failures), "Degraded") == ("True", "VolumeNotFound")


@pytest.mark.parametrize(
    ("message", "reason"), [("exceeded quota: q", "QuotaExceeded"), ("violates PodSecurity", "PodsForbidden")]
)
def test_pods_that_may_not_be_made(world: World, model: Make, message: str, reason: str) -> None:
    world.apply(world.plan(model()))
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    world.set_status("Deployment", "m", observedGeneration=1, conditions=[failure])
    assert verdict(conditions(world, model()), "Degraded") == ("True", reason)


def rolling(world: World, model: Make, pod: Make, **rollout: Any) -> Any:
    made = model(**GPU, rollout=rollout)
    world.apply(world.plan(made))
    world.set_status(
        "Deployment", "m", observedGeneration=1, replicas=2, updatedReplicas=1, readyReplicas=1, availableReplicas=1
    )
    world.pods = [pod("old", revision="a"), pod("new", revision="b", unschedulable=INSUFFICIENT)]
    return made


def test_a_rollout_without_room_waits_and_says_so(world: World, model: Make, pod: Make) -> None:
    made = rolling(world, model, pod)
    found = conditions(world, made)
    assert verdict(found, "Progressing") == ("False", "RolloutDeadlocked")
    assert verdict(found, "Degraded") == ("True", "RolloutDeadlocked")
    assert "ReplaceInPlace" in found["Degraded"].message
    assert verdict(found, "Available") == ("True", "PodsServing")
    assert not world.plan(made).in_place


def test_a_rollout_without_room_replaces_in_place_when_told_to(world: World, model: Make, pod: Make) -> None:
    made = rolling(world, model, pod, whenFull="ReplaceInPlace")
    planned = world.plan(made)
    assert planned.in_place
    [action] = planned.actions
    rolling_update = action.manifest["spec"]["strategy"]["rollingUpdate"]  # type: ignore[union-attr]
    assert rolling_update == {"maxSurge": 0, "maxUnavailable": 1}
    assert verdict(conditions(world, made), "Progressing") == ("True", "RollingOut")
    world.apply(planned)
    counts = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    world.set_status("Deployment", "m", **counts)
    world.pods = [pod("old", revision="a", leaving=True), pod("new", revision="b", ready=False)]
    assert world.plan(made).in_place, "to the end of the rollout"
    world.settle()
    world.pods = [pod("new", revision="b")]
    [back] = world.plan(made).actions
    assert back.manifest["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (10, "SourceUnauthorized"),
        (11, "SourceNotFound"),
        (12, "CacheFull"),
        (13, "ChecksumMismatch"),
        (1, "PreloadFailed"),
    ],
)
def test_a_fetch_that_fails(world: World, model: Make, pod: Make, code: int, reason: str) -> None:
    made = model(**HUB, cache={"size": "1Gi"})
    world.apply(world.plan(made))
    [job] = [name for kind, name in world.children if kind == "Job"]
    world.set_status("Job", job, conditions=[{"type": "Failed", "status": "True"}], failed=1)
    end = {"terminated": {"exitCode": code, "message": '{"error":"no access"}'}}
    world.fetch_pods = [pod("f", component=names.FETCH, ready=False, containers=[{"name": "fetch", "state": end}])]
    found = conditions(world, made)
    assert verdict(found, "ModelCached") == ("False", reason)
    assert verdict(found, "Degraded") == ("True", reason)
    assert found["Degraded"].message == "no access"


def test_a_fetch_that_goes_on(world: World, model: Make) -> None:
    made = model(**HUB, cache={"size": "1Gi"})
    world.apply(world.plan(made))
    found = conditions(world, made)
    assert verdict(found, "ModelCached") == ("False", "Preloading")
    assert verdict(found, "Progressing") == ("True", "Preloading")
    assert verdict(found, "Degraded") == ("False", "AsExpected")


def test_refusals_and_strangers(settled: World, model: Make) -> None:
    refused = Outcome(failure=(Reason.NAMESPACE_TERMINATING, "the namespace is being terminated"))
    assert verdict(conditions(settled, model(), outcome=refused), "Degraded") == ("True", "NamespaceTerminating")
    strangers = Outcome(conflicts=("Service m",))
    found = conditions(settled, model(), outcome=strangers)
    assert verdict(found, "Degraded") == ("True", "NameConflict")
    assert verdict(found, "Ready")[0] == "False"
    assert "Service m" in found["Degraded"].message


def test_what_the_autoscaler_says_is_shown(settled: World, model: Make) -> None:
    said = Scaling(AutoscalingStatus(desired=1), False, Reason.METRICS_UNAVAILABLE, "no pod tells its load")
    found = conditions(settled, model(), scaling=said)
    assert verdict(found, "ScalingActive") == ("False", "MetricsUnavailable")


def test_times_change_with_the_status_only(settled: World, model: Make) -> None:
    before = {"type": "Ready", "status": "True", "reason": "Other", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    found = conditions(settled, model(status={"conditions": [before]}))
    assert found["Ready"].last_transition_time == "2020-01-01T00:00:00Z"
    assert found["Available"].last_transition_time == NOW


def test_transitions_are_what_people_should_be_told(settled: World, model: Make) -> None:
    planned = settled.plan(model())
    first = status(settled.observed(model()), planned, Outcome(), None, settled.settings, NOW)
    assert {c.type for c in transitions(LeptonModelStatus(), first)} == {"Available", "Ready"}
    assert transitions(first, first) == []
    stopped = settled.plan(model(), 0)
    second = status(settled.observed(model()), stopped, Outcome(), None, settled.settings, NOW)
    assert {c.type for c in transitions(first, second)} == {"Ready", "Progressing"}


def test_a_model_that_cannot_be_read_keeps_what_it_said(settled: World, model: Make) -> None:
    first = status(settled.observed(model()), settled.plan(model()), Outcome(), None, settled.settings, NOW)
    found = unreadable_status(first, 5, "spec.gpu: no", NOW)
    assert found.observed_generation == 5
    by_type = {c.type: c for c in found.conditions}
    assert (by_type["Degraded"].status, by_type["Degraded"].reason) == ("True", "InvalidSpec")
    assert by_type["Available"].status == "True"
    assert unreadable_status(found, 5, "spec.gpu: no", NOW) == found
