"""What kwok plays: nodes with GPUs, and pods that become what their annotations say.

A pod's annotation `lepton.test/fate` says what becomes of it once it is scheduled; `lepton.test/start-seconds` how long
that takes (a Go duration).

    (none)        it runs and is ready, from an address of the pod range
    never-ready   it runs, and its readiness probe never passes
    image-pull    its image cannot be pulled
    crash         its container ends with an error, again and again
    left-alone    nothing: the test writes its status

Pods of a Job succeed, unless a label `lepton.test/fate` says `left-alone`: the operator hands labels on to them.
"""

from collections.abc import Sequence
from typing import Any

from tests.cluster.api import Api, Object

FATE = "lepton.test/fate"
START = "lepton.test/start-seconds"
_FATE = f'.metadata.annotations["{FATE}"]'
_JOB_FATE = f'.metadata.labels["{FATE}"]'
_START = f'.metadata.annotations["{START}"]'
_JOB = '.metadata.ownerReferences.[] | select( .kind == "Job" ) | .kind'


def _stage(name: str, kind: str, when: Sequence[Object], then: Object, delay: Object | None = None) -> Object:
    spec: dict[str, Any] = {
        "resourceRef": {"apiGroup": "v1", "kind": kind},
        "selector": {"matchExpressions": list(when)},
        "next": then,
    }
    if delay is not None:
        spec["delay"] = delay
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": name}, "spec": spec}


def _is(key: str, *values: str) -> Object:
    return {"key": key, "operator": "In", "values": list(values)}


def _is_not(key: str, *values: str) -> Object:
    return {"key": key, "operator": "NotIn", "values": list(values)}


def _has(key: str) -> Object:
    return {"key": key, "operator": "Exists"}


def _lacks(key: str) -> Object:
    return {"key": key, "operator": "DoesNotExist"}


_NODE_STATUS = """
{{ $now := Now }}
conditions:
{{ range NodeConditions }}
- {type: {{ .type | Quote }}, status: {{ .status | Quote }}, reason: {{ .reason | Quote }},
   message: {{ .message | Quote }}, lastHeartbeatTime: {{ $now | Quote }}, lastTransitionTime: {{ $now | Quote }}}
{{ end }}
addresses:
- {type: InternalIP, address: {{ NodeIP | Quote }}}
- {type: Hostname, address: {{ NodeName | Quote }}}
phase: Running
"""


def _pod_status(phase: str, ready: str, state: str, scheduled_ip: bool = True) -> str:
    """A pod's status: its phase, "True" or "False", and the state of its containers as a flow mapping."""
    address = (
        "hostIP: {{ NodeIPWith .spec.nodeName | Quote }}\n"
        'podIP: {{ PodIPWith .spec.nodeName ( or .spec.hostNetwork false ) ( or .metadata.uid "" ) '
        '( or .metadata.name "" ) ( or .metadata.namespace "" ) | Quote }}\n'
    )
    conditions = {"Initialized": "True", "ContainersReady": ready, "Ready": ready}
    lines = [
        f'- {{type: {kind}, status: "{status}", lastTransitionTime: {{{{ $now | Quote }}}}}}'
        for kind, status in conditions.items()
    ]
    container = (
        "- {name: {{ .name | Quote }}, image: {{ .image | Quote }}, imageID: {{ .image | Quote }}, restartCount: 0,\n"
        f"   ready: {ready.lower()}, started: {ready.lower()}, state: {state}}}"
    )
    finished = "{terminated: {exitCode: 0, reason: Completed, finishedAt: {{ $now | Quote }}}}"
    initial = container.replace(f"state: {state}", f"state: {finished}")
    return "\n".join(
        [
            "{{ $now := Now }}",
            f"phase: {phase}",
            "startTime: {{ $now | Quote }}",
            "conditions:",
            *lines,
            "containerStatuses:",
            "{{ range .spec.containers }}",
            container,
            "{{ end }}",
            "initContainerStatuses:",
            "{{ range .spec.initContainers }}",
            initial,
            "{{ end }}",
            address if scheduled_ip else "",
        ]
    )


_RUNNING = "{running: {startedAt: {{ $now | Quote }}}}"
_FATES = ("never-ready", "image-pull", "crash", "left-alone")
_NEW = (_lacks(".metadata.deletionTimestamp"), _lacks(".status.startTime"))
_DELAY: Object = {"durationMilliseconds": 0, "durationFrom": {"expressionFrom": _START}}

STAGES: list[Object] = [
    _stage(
        "node-ready",
        "Node",
        [_is_not('.status.conditions.[] | select( .type == "Ready" ) | .status', "True")],
        {"statusTemplate": _NODE_STATUS},
    ),
    _stage(
        "node-heartbeat",
        "Node",
        [_is('.status.conditions.[] | select( .type == "Ready" ) | .status', "True")],
        {"statusTemplate": _NODE_STATUS},
        {"durationMilliseconds": 600_000, "jitterDurationMilliseconds": 610_000},
    ),
    _stage(
        "pod-ready",
        "Pod",
        [*_NEW, _is_not(_FATE, *_FATES), _lacks(_JOB)],
        {"statusTemplate": _pod_status("Running", "True", _RUNNING)},
        _DELAY,
    ),
    _stage(
        "pod-never-ready",
        "Pod",
        [*_NEW, _is(_FATE, "never-ready")],
        {"statusTemplate": _pod_status("Running", "False", _RUNNING)},
    ),
    _stage(
        "pod-image-pull",
        "Pod",
        [*_NEW, _is(_FATE, "image-pull")],
        {
            "statusTemplate": _pod_status(
                "Pending",
                "False",
                '{waiting: {reason: ImagePullBackOff, message: "Back-off pulling image"}}',
            )
        },
    ),
    _stage(
        "pod-crash",
        "Pod",
        [*_NEW, _is(_FATE, "crash")],
        {
            "statusTemplate": _pod_status(
                "Running", "False", '{waiting: {reason: CrashLoopBackOff, message: "back-off restarting container"}}'
            )
        },
    ),
    _stage(
        "job-pod-succeeds",
        "Pod",
        [*_NEW, _is_not(_JOB_FATE, "left-alone"), _has(_JOB)],
        {
            "statusTemplate": _pod_status(
                "Succeeded", "False", "{terminated: {exitCode: 0, reason: Completed, finishedAt: {{ $now | Quote }}}}"
            )
        },
        _DELAY,
    ),
    _stage(
        "pod-delete",
        "Pod",
        [_has(".metadata.deletionTimestamp")],
        {"finalizers": {"empty": True}, "delete": True},
    ),
]


def node(name: str, gpus: int = 8, pods: int = 500, gpu: str = "nvidia.com/gpu") -> Object:
    """A node that kwok keeps alive; with no GPUs it offers processors only."""
    room = {"cpu": "4096", "memory": "16Ti", "ephemeral-storage": "16Ti", "pods": str(pods)}
    if gpus:
        room[gpu] = str(gpus)
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
        "status": {"allocatable": room, "capacity": room},
    }


def add_node(api: Api, name: str, gpus: int = 8, pods: int = 500) -> None:
    """Create a node. Raises: ApiError."""
    made = node(name, gpus, pods)
    api.create(made)
