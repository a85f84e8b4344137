"""Where a rollout stands."""

from collections.abc import Sequence

from lepton_operator.api.spec import WhenFull
from lepton_operator.observed import Deployment, Model, Pod


def settled(deployment: Deployment | None) -> bool:
    """Whether all pods are of the newest revision and available."""
    if deployment is None:
        return False
    status, wanted = deployment.status, deployment.spec.replicas
    return (
        status.observed_generation >= deployment.metadata.generation
        and status.replicas == status.updated_replicas == wanted
        and status.available_replicas == status.ready_replicas == wanted
    )


def in_progress(deployment: Deployment) -> bool:
    """Whether pods of an older revision remain, or a change has not been seen by its controller yet."""
    status = deployment.status
    return status.observed_generation < deployment.metadata.generation or status.updated_replicas < status.replicas


def deadlock(deployment: Deployment | None, pods: Sequence[Pod]) -> str | None:
    """The scheduler's sentence when a rollout waits for room that its own old pods take; None otherwise."""
    if deployment is None or not in_progress(deployment):
        return None
    alive = [pod for pod in pods if not pod.leaving]
    for pod in alive:
        message = pod.unschedulable
        if message is not None and any(other.revision != pod.revision for other in alive):
            return message
    return None


def replace_in_place(model: Model, deployment: Deployment | None, pods: Sequence[Pod]) -> bool:
    """Whether pods shall end before their successors start: from a deadlock on, to the end of that rollout."""
    if deployment is None or model.spec.rollout.when_full is not WhenFull.REPLACE_IN_PLACE:
        return False
    if deadlock(deployment, pods) is not None:
        return True
    rolling = deployment.spec.strategy.rolling_update
    already = rolling is not None and rolling.max_surge == 0 and model.spec.rollout.max_surge != 0
    return already and in_progress(deployment)
