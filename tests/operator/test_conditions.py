"""docs/operate.md lists every condition with every status and reason that the operator can give it, and no other.

What can be given is found by playing all combinations of what a status is made from: the Deployment, the fetch, the
pods' problems, what the API server refused, deadlocks and autoscaling.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from lepton_operator.api import ConditionType, LeptonModelStatus, Reason
from lepton_operator.api.status import AutoscalingStatus
from lepton_operator.desired import Choices, desired
from lepton_operator.execute import refusal
from lepton_operator.kube.client import ApiError
from lepton_operator.kube.decode import decode
from lepton_operator.observed import Child, Deployment, Model, Pod
from lepton_operator.plan import Observed, Plan
from lepton_operator.preload import REASONS, Preload
from lepton_operator.scale_down import ScaleStep
from lepton_operator.scaling import _SCALING_REASONS
from lepton_operator.settings import PodSettings
from lepton_operator.status import Outcome, Scaling, status, unreadable_status

ROOT = Path(__file__).parents[2]
Triple = tuple[str, str, str]
UID = "11111111-2222-3333-4444-555555555555"
EMBEDDED: dict[str, Any] = {"model": {"source": {"embedded": {}}}, "gpu": {}}
HUB: dict[str, Any] = {"model": {"source": {"huggingFace": {"repo": "owner/name"}}}, "gpu": {}}
CACHED: dict[str, Any] = {**HUB, "cache": {"size": "1Gi"}}

SETTLED = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
LATE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
DEPLOYMENTS: list[tuple[int, dict[str, Any]] | None] = [
    None,
    (1, SETTLED),
    (0, {}),
    (1, {}),
    (1, {"replicas": 1, "updatedReplicas": 1}),
    (1, {**SETTLED, "updatedReplicas": 0}),
    (1, {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 1, "availableReplicas": 1}),
    (1, {"replicas": 1, "updatedReplicas": 1, "conditions": [LATE]}),
    *(
        (1, {"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": said}]})
        for said in ("exceeded quota: q", "violates PodSecurity")
    ),
]
"""Replicas and status; None: there is none."""
UNSCHEDULABLE = ("0/1 nodes: Insufficient nvidia.com/gpu", "no node fits", 'persistentvolumeclaim "c" not found')
WAITING = ("ImagePullBackOff", "CreateContainerConfigError", "CrashLoopBackOff")
MOUNTS = ('MountVolume.SetUp failed: secret "s" not found', "MountVolume.SetUp failed: no such disk")
REFUSALS = [
    ApiError(422, Reason.IMAGE_VOLUME_UNSUPPORTED.value, "no image volumes"),
    ApiError(403, "Forbidden", "namespace is being terminated"),
    ApiError(403, "Forbidden", "exceeded quota: q"),
    ApiError(422, "Invalid", "no"),
]
OUTCOMES = [Outcome(), Outcome(conflicts=("Service m",)), *(Outcome(failure=refusal(error)) for error in REFUSALS)]
PRELOADS = [
    Preload(needed=False, done=True),
    Preload(needed=True),
    *(
        Preload(True, failed=failed, reason=reason, message="no")
        for reason in (*REASONS.values(), Reason.PRELOAD_FAILED)
        for failed in (False, True)
    ),
]


def pods() -> Iterator[tuple[list[Pod], dict[str, str]]]:
    """No pod, and one pod with each problem; what kubelets said of it."""

    def pod(**status: Any) -> Pod:
        return msgspec.convert({"metadata": {"name": "p"}, "status": status}, Pod)

    yield [], {}
    for message in UNSCHEDULABLE:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        yield [pod(conditions=[condition])], {}
    for reason in WAITING:
        yield [pod(containerStatuses=[{"name": "server", "state": {"waiting": {"reason": reason}}}])], {}
    for message in MOUNTS:
        yield [pod()], {"p": message}


def deployment(model: Model, given: tuple[int, dict[str, Any]] | None) -> dict[tuple[str, str], Child]:
    """The model's Deployment, by its kind and name."""
    if given is None:
        return {}
    replicas, found = given
    manifest = next(m for m in desired(model, PodSettings(), Choices(replicas)) if m["kind"] == "Deployment")
    made = decode(Deployment, msgspec.json.encode({**manifest, "status": found}))
    assert isinstance(made, Deployment)
    return {("Deployment", "m"): made}


def told(observed: Observed, plan: Plan, outcome: Outcome, scaling: Scaling | None = None) -> set[Triple]:
    found = status(observed, plan, outcome, scaling, PodSettings(), "2026-01-01T00:00:00Z")
    return {(c.type, c.status, c.reason) for c in found.conditions}


def possible() -> set[Triple]:
    """Every condition with every status and reason that some combination gives."""
    found: set[Triple] = set()
    for spec in (EMBEDDED, CACHED, HUB):
        metadata = {"name": "m", "namespace": "ns", "uid": UID, "generation": 1}
        model = msgspec.convert({"metadata": metadata, "spec": spec}, Model)
        for given in DEPLOYMENTS:
            observed = Observed(model, deployment(model, given))
            for fetched, deadlock, held, target in itertools.product(PRELOADS, (None, "full"), ("", "x"), (0, 1)):
                plan = Plan((), (), target, ScaleStep(1, held=held), fetched, deadlock, in_place=False)
                found |= told(observed, plan, Outcome())
        observed = Observed(model, deployment(model, (1, {})))
        plan = Plan((), (), 1, ScaleStep(1), PRELOADS[0], None, in_place=False)
        for (alive, mounts), outcome in itertools.product(pods(), OUTCOMES):
            found |= told(replace(observed, pods=alive, mount_failures=mounts), plan, outcome)
        for reason in _SCALING_REASONS.values():
            active = reason is not Reason.METRICS_UNAVAILABLE
            found |= told(observed, plan, Outcome(), Scaling(AutoscalingStatus(desired=1), active, reason, ""))
    refused = unreadable_status(LeptonModelStatus(), 1, "no", "2026-01-01T00:00:00Z")
    return found | {(c.type, c.status, c.reason) for c in refused.conditions}


def documented() -> set[Triple]:
    """The rows of the tables below `### CONDITION`: | status | reasons | ... |."""
    found: set[Triple] = set()
    text = (ROOT / "docs" / "operate.md").read_text()
    for condition, section in re.findall(r"^### `(\w+)`\n(.*?)(?=^#)", text, re.MULTILINE | re.DOTALL):
        for holds, reasons in re.findall(r"^\| (True|False) \| ([^|]*) \|", section, re.MULTILINE):
            found |= {(condition, holds, reason) for reason in re.findall(r"`(\w+)`", reasons)}
    return found


def test_the_tables_have_what_can_be_told_and_no_more() -> None:
    can, listed = possible(), documented()
    # Not Ready has the reason of Degraded or of Progressing, where one of them says why.
    passed_on = {
        reason for kind, holds, reason in can if (kind, holds) in (("Degraded", "True"), ("Progressing", "True"))
    }
    can -= {("Ready", "False", reason) for reason in passed_on}
    assert sorted(can - listed) == []
    assert sorted(listed - can) == []


def test_every_condition_and_reason_of_the_api_can_be_told() -> None:
    can = possible()
    assert {kind for kind, _, _ in can} == {kind.value for kind in ConditionType}
    assert {reason for _, _, reason in can} == {reason.value for reason in Reason}
