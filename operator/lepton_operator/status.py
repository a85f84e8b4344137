"""The status of a model: conditions with reasons, from what was observed and planned. Pure; the clock is given."""

from dataclasses import dataclass

import msgspec

from lepton_operator import names
from lepton_operator.api import Condition, ConditionType, LeptonModelStatus, Reason
from lepton_operator.api.status import AutoscalingStatus, ModelStatus
from lepton_operator.desired.network import endpoint
from lepton_operator.desired.weights import is_fetched
from lepton_operator.observed import Deployment, PolicyCondition
from lepton_operator.plan import Observed, Plan
from lepton_operator.pod_problems import pod_problem
from lepton_operator.rollout import settled
from lepton_operator.settings import PodSettings

Verdict = tuple[bool, Reason, str]


@dataclass(frozen=True)
class Outcome:
    """What the API server said to the plan.

    Attributes:
        conflicts: strangers' objects that were found when ours were to be made, as `Kind name`.
        failure: the first refusal, as a reason and a sentence.
    """

    conflicts: tuple[str, ...] = ()
    failure: tuple[Reason, str] | None = None


@dataclass(frozen=True)
class Scaling:
    """What the autoscaler says.

    Attributes:
        status: for `status.autoscaling`. reason, message: for ScalingActive; active: its status.
    """

    status: AutoscalingStatus
    active: bool
    reason: Reason
    message: str


def status(
    observed: Observed, plan: Plan, outcome: Outcome, scaling: Scaling | None, settings: PodSettings, now: str
) -> LeptonModelStatus:
    """The status that the model shall have.

    Args:
        scaling: None where the model has no `autoscaling`.
        now: time of conditions that change now, RFC 3339.
    """
    model, deployment = observed.model, observed.deployment
    verdicts = {
        ConditionType.AVAILABLE: _available(observed, plan),
        ConditionType.READY: _ready(observed, plan, outcome),
        ConditionType.PROGRESSING: _progressing(observed, plan),
        ConditionType.DEGRADED: _degraded(observed, plan, outcome),
        ConditionType.MODEL_CACHED: _cached(observed, plan),
        ConditionType.SCALING_ACTIVE: _scaling(scaling),
    }
    report = plan.preload.report
    revision = report.revision if report is not None else None
    return LeptonModelStatus(
        observed_generation=model.metadata.generation,
        replicas=deployment.status.replicas if deployment else 0,
        ready_replicas=deployment.status.ready_replicas if deployment else 0,
        updated_replicas=deployment.status.updated_replicas if deployment else 0,
        selector=names.selector_text(model.metadata.name),
        endpoint=endpoint(model, settings),
        model=ModelStatus(revision) if revision else None,
        autoscaling=scaling.status if scaling else None,
        conditions=[_condition(observed, kind, verdict, now) for kind, verdict in verdicts.items()],
    )


def unreadable_status(previous: LeptonModelStatus, generation: int, problem: str, now: str) -> LeptonModelStatus:
    """The status of a model that this operator cannot work with: what it did before stays, and Degraded says why."""
    wrong = Condition(
        type=ConditionType.DEGRADED.value,
        status="True",
        reason=Reason.INVALID_SPEC.value,
        message=problem,
        last_transition_time=_since(previous, ConditionType.DEGRADED, "True", now),
        observed_generation=generation,
    )
    others = [c for c in previous.conditions if c.type != wrong.type]
    return msgspec.structs.replace(previous, observed_generation=generation, conditions=[*others, wrong])


def transitions(before: LeptonModelStatus, after: LeptonModelStatus) -> list[Condition]:
    """Conditions that people should be told of by Events: a status that changed; where something is wrong, a new reason
    too. Of a new model only what has come about: that it serves, is ready, or that something is wrong."""
    old = {c.type: (c.status, c.reason) for c in before.conditions}
    return [c for c in after.conditions if _is_news(c, old.get(c.type))]


def _is_news(condition: Condition, old: tuple[str, str] | None) -> bool:
    if old is None:
        return condition.status == "True" and condition.type in _TOLD_AT_FIRST
    return condition.status != old[0] or (condition.reason != old[1] and condition.type in _TOLD_BY_REASON)


_TOLD_AT_FIRST = ("Available", "Ready", "Degraded")
# Ready and Progressing change their reasons several times in every rollout.
_TOLD_BY_REASON = ("Degraded", "ModelCached", "ScalingActive")


def _condition(observed: Observed, kind: ConditionType, verdict: Verdict, now: str) -> Condition:
    holds, reason, message = verdict
    text = "True" if holds else "False"
    return Condition(
        type=kind.value,
        status=text,
        reason=reason.value,
        message=message[:4096],
        last_transition_time=_since(observed.model.status, kind, text, now),
        observed_generation=observed.model.metadata.generation,
    )


def _since(previous: LeptonModelStatus, kind: ConditionType, text: str, now: str) -> str:
    for condition in previous.conditions:
        if condition.type == kind.value and condition.status == text:
            return condition.last_transition_time
    return now


def _available(observed: Observed, plan: Plan) -> Verdict:
    deployment = observed.deployment
    ready = deployment.status.ready_replicas if deployment else 0
    if ready > 0:
        return True, Reason.PODS_SERVING, "pods serve"
    if plan.target == 0:
        return False, Reason.STOPPED, "replicas is 0"
    return False, Reason.NO_POD_SERVING, "no pod serves"


def _up_to_date(observed: Observed, plan: Plan, outcome: Outcome) -> bool:
    """Whether everything is applied, of this generation, and settled."""
    deployment = observed.deployment
    return (
        not plan.conflicts
        and not outcome.conflicts
        and outcome.failure is None
        and plan.preload.done
        and deployment is not None
        and deployment.spec.replicas == plan.target
        and settled(deployment)
    )


def _ready(observed: Observed, plan: Plan, outcome: Outcome) -> Verdict:
    if _up_to_date(observed, plan, outcome):
        if plan.target == 0:
            return True, Reason.STOPPED, "replicas is 0"
        return True, Reason.ALL_REPLICAS_READY, f"all pods are of this generation and ready: {plan.target}"
    degraded, reason, message = _degraded(observed, plan, outcome)
    if degraded:
        return False, reason, message
    _, reason, message = _progressing(observed, plan)  # What is neither settled nor wrong is under way.
    return False, reason, message


def _progressing(observed: Observed, plan: Plan) -> Verdict:
    deployment = observed.deployment
    if plan.deadlock is not None and not plan.in_place:
        return False, Reason.ROLLOUT_DEADLOCKED, _deadlock_message(plan)
    if not plan.preload.done:
        if plan.preload.failed:
            return False, plan.preload.reason, plan.preload.message
        return True, Reason.PRELOADING, "the model is fetched"
    if deployment is None:
        return True, Reason.CREATING, "the Deployment is made"
    if _deployment_condition(deployment, "Progressing", "False", "ProgressDeadlineExceeded") and not settled(
        deployment
    ):
        return False, Reason.PROGRESS_DEADLINE_EXCEEDED, "pods did not become ready in time"
    if settled(deployment) and deployment.spec.replicas == plan.target:
        return False, Reason.SETTLED, "nothing is under way"
    counts = deployment.status
    if counts.updated_replicas < counts.replicas:
        return True, Reason.ROLLING_OUT, "pods of an older revision are replaced"
    if plan.step.held and deployment.spec.replicas != plan.target:
        return True, Reason.SCALE_DOWN_HELD, f"{plan.target} replicas are wanted; {plan.step.held}"
    if counts.ready_replicas == 0 and not observed.model.status.ready_replicas:
        return True, Reason.CREATING, "pods start"
    return True, Reason.SCALING, "pods start or end"


def _deadlock_message(plan: Plan) -> str:
    return (
        f"no node has room for the pod above replicas: {plan.deadlock}; old pods keep serving. Add a node, or set "
        "rollout.whenFull: ReplaceInPlace"
    )


def _degraded(observed: Observed, plan: Plan, outcome: Outcome) -> Verdict:
    conflicts = plan.conflicts or outcome.conflicts
    if conflicts:
        found = ", ".join(conflicts)
        return True, Reason.NAME_CONFLICT, f"objects of these names belong to others and are left alone: {found}"
    if outcome.failure is not None:
        return True, *outcome.failure
    if plan.preload.reason is not Reason.PRELOADING and not plan.preload.done:
        return True, plan.preload.reason, plan.preload.message
    if plan.deadlock is not None and not plan.in_place:
        return True, Reason.ROLLOUT_DEADLOCKED, _deadlock_message(plan)
    pods = observed.pods if plan.preload.done else [*observed.pods, *observed.fetch_pods]
    problem = pod_problem(observed.model, pods, observed.mount_failures)
    if problem is not None:
        return True, *problem
    deployment = observed.deployment
    if deployment is not None:
        failure = _deployment_condition(deployment, "ReplicaFailure", "True", "")
        if failure is not None:
            quota = "exceeded quota" in failure.message
            return True, Reason.QUOTA_EXCEEDED if quota else Reason.PODS_FORBIDDEN, failure.message
        late = _deployment_condition(deployment, "Progressing", "False", "ProgressDeadlineExceeded")
        if late is not None and not settled(deployment):
            return True, Reason.PROGRESS_DEADLINE_EXCEEDED, "pods did not become ready in time; see their logs"
    return False, Reason.AS_EXPECTED, ""


def _deployment_condition(deployment: Deployment, kind: str, text: str, reason: str) -> PolicyCondition | None:
    for condition in deployment.status.conditions:
        if condition.type == kind and condition.status == text and (not reason or condition.reason == reason):
            return condition
    return None


def _cached(observed: Observed, plan: Plan) -> Verdict:
    model, fetched = observed.model, plan.preload
    if not is_fetched(model.spec.model.source):
        return True, Reason.NOT_NEEDED, "the source needs no fetching"
    if not fetched.done:
        return False, fetched.reason, fetched.message or "the model is fetched"
    if model.spec.cache is None:
        return False, Reason.PER_POD, "each pod fetches into a volume of its own"
    return True, Reason.CACHED, "the cache holds the model"


def _scaling(scaling: Scaling | None) -> Verdict:
    if scaling is None:
        return False, Reason.NOT_CONFIGURED, "no autoscaling: spec.replicas counts, and an HPA may own it"
    return scaling.active, scaling.reason, scaling.message
