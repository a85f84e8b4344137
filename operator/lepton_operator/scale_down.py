"""Scaling down in its order: the pods with the fewest streams go.

Streams are kept by the drain whichever pod goes; choosing it is an economy. ReplicaSets choose their victims by
unassigned, not running, not ready, and only then by pod-deletion-cost. So: mark the victims, see the marks in our
watch, lower `replicas`, see who went, clear marks that are stale. Each step follows from what is observed, so that an
operator that is killed in between loses nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lepton_operator import names
from lepton_operator.observed import Deployment, Pod

COST = "-1000"


@dataclass(frozen=True)
class ScaleStep:
    """What to do now.

    Attributes:
        replicas: what the Deployment shall have now.
        mark, clear: pods that get the deletion cost, and that lose it.
        held: why replicas stay higher than wanted; empty when they don't.
        needs_loads: whether the pods must be asked for their streams first.
    """

    replicas: int
    mark: tuple[Pod, ...] = ()
    clear: tuple[Pod, ...] = ()
    held: str = ""
    needs_loads: bool = field(default=False, compare=True)


def scale_step(
    deployment: Deployment, pods: Sequence[Pod], target: int, loads: Mapping[str, int] | None, deadlocked: bool
) -> ScaleStep:
    """The next step towards `target` replicas.

    Args:
        pods: those of the model's servers.
        loads: streams by pod name, of the pods that answered; None when they were not asked.
        deadlocked: whether a rollout is stuck for want of room; then scaling down may be the way out.
    """
    current = deployment.spec.replicas
    alive = [pod for pod in pods if not pod.leaving]
    marked = [pod for pod in alive if pod.metadata.annotations.get(names.DELETION_COST) == COST]
    if target >= current:
        return ScaleStep(target, clear=tuple(marked) if _seen_through(deployment, alive) else ())
    if target == 0:
        return ScaleStep(0)
    status = deployment.status
    if status.observed_generation < deployment.metadata.generation:
        return ScaleStep(current, held="the Deployment's last change is not carried out yet")
    if len({pod.revision for pod in alive}) > 1 or status.updated_replicas != status.replicas:
        return ScaleStep(target) if deadlocked else ScaleStep(current, held="a rollout is in progress")
    need = current - target
    idle = (current - len(alive)) + sum(not pod.ready for pod in alive)
    if idle > 0:  # Pods that do not serve go first, whatever the costs.
        return ScaleStep(current - min(need, idle))
    if len(marked) == need:
        return ScaleStep(target)
    if loads is None:
        return ScaleStep(current, held="the pods are asked for their streams", needs_loads=True)
    order = sorted(alive, key=lambda pod: (loads.get(pod.metadata.name, 1 << 31), pod not in marked, pod.metadata.name))
    victims = order[:need]
    return ScaleStep(
        current,
        mark=tuple(pod for pod in victims if pod not in marked),
        clear=tuple(pod for pod in marked if pod not in victims),
        held="the pods that shall go are marked",
    )


def _seen_through(deployment: Deployment, alive: Sequence[Pod]) -> bool:
    """Whether the last change of replicas has been carried out, so that marks which remain are stale."""
    status = deployment.status
    return (
        status.observed_generation >= deployment.metadata.generation
        and status.replicas == deployment.spec.replicas == len(alive)
    )
