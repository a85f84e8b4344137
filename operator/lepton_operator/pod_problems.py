"""What keeps pods from serving, in the operator's words, from what scheduler and kubelet say of them."""

from collections.abc import Iterable, Mapping

from lepton_operator.api import Reason
from lepton_operator.observed import Model, Pod

MESSAGE_CHARACTERS = 1000
_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
Problem = tuple[Reason, str]

_ORDER = (
    Reason.IMAGE_VOLUME_UNSUPPORTED,
    Reason.SECRET_NOT_FOUND,
    Reason.VOLUME_NOT_FOUND,
    Reason.IMAGE_PULL,
    Reason.CRASH_LOOPING,
    Reason.INSUFFICIENT_GPU,
    Reason.UNSCHEDULABLE,
)


def pod_problem(model: Model, pods: Iterable[Pod], mount_failures: Mapping[str, str]) -> Problem | None:
    """The gravest problem of the pods, whatever their order; None when there is none.

    Args:
        mount_failures: by pod name, what the kubelet said when it could not mount a volume.
    """
    found: dict[Reason, str] = {}
    for pod in sorted(pods, key=lambda p: p.metadata.name):
        if pod.leaving or pod.ready:
            continue
        problem = _problem(model, pod, mount_failures.get(pod.metadata.name))
        if problem is not None:
            found.setdefault(*problem)
    for reason in _ORDER:
        if reason in found:
            return reason, found[reason]
    return None


def _problem(model: Model, pod: Pod, mount_failure: str | None) -> Problem | None:
    message = pod.unschedulable
    if message is not None:
        return _unschedulable(model, message)
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        waiting = status.state.waiting
        if waiting is None:
            continue
        if waiting.reason in _IMAGE:
            return Reason.IMAGE_PULL, _text(waiting.message, "the image cannot be pulled")
        if waiting.reason == "CreateContainerConfigError":
            return Reason.SECRET_NOT_FOUND, _text(waiting.message, "a Secret or ConfigMap is missing")
        if waiting.reason == "CrashLoopBackOff":
            last = status.last_state.terminated
            said = last.message.strip()[-MESSAGE_CHARACTERS:] if last is not None else ""  # an error comes last
            return Reason.CRASH_LOOPING, _text(said, f"container {status.name} ends again and again; see its log")
    if mount_failure is not None:
        lower = mount_failure.lower()
        secret = "secret" in lower or "configmap" in lower
        return Reason.SECRET_NOT_FOUND if secret else Reason.VOLUME_NOT_FOUND, mount_failure
    return None


def _unschedulable(model: Model, message: str) -> Problem:
    if "persistentvolumeclaim" in message or "PersistentVolumeClaim" in message:
        return Reason.VOLUME_NOT_FOUND, message
    if model.spec.gpu is not None and f"Insufficient {model.spec.gpu.resource}" in message:
        return Reason.INSUFFICIENT_GPU, message
    return Reason.UNSCHEDULABLE, message


def _text(message: str, otherwise: str) -> str:
    """The kubelet's sentence, or ours where it says nothing."""
    return message.strip()[:MESSAGE_CHARACTERS] or otherwise
