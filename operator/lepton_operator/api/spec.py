"""The spec of a LeptonModel: the one source of truth that the CRD's schema is generated from."""

from enum import Enum
from typing import Annotated

from msgspec import field

from lepton_operator.api.base import NO_CONTROL, ObjectName, Struct, meta, rules
from lepton_operator.api.pod import Pod
from lepton_operator.api.scheduling import Peer
from lepton_operator.api.source import FETCHED_KINDS, Cache, ModelSource, Quantization

OPERATOR_FLAGS = (
    "--host", "--port", "--control-host", "--control-port", "--tls-cert", "--tls-key", "--tls-client-ca",
    "--served-model-name", "--device", "--quantize", "--quantization", "--kv-cache-dtype", "--max-num-seqs",
    "--max-stream-seconds", "--drain-propagation", "--drain-timeout", "--auth-tokens", "--metrics-host",
    "--metrics-port",
)  # fmt: skip
"""Flags of `lepton serve` that fields of the spec stand for."""

MAX_ARGS_CHARACTERS = 6_000


class TLS(Struct, frozen=True):
    """TLS of the inference port."""

    secret_name: Annotated[ObjectName, meta("Secret of type kubernetes.io/tls, with tls.crt and tls.key.")]
    client_ca: (
        Annotated[
            ObjectName,
            meta("ConfigMap whose key ca.crt holds the authority that clients' certificates must be signed by (mTLS)."),
        ]
        | None
    ) = None


class Auth(Struct, frozen=True):
    """Who may call."""

    tokens_secret: Annotated[
        ObjectName, meta("Secret whose key `tokens` is the server's file of hashed bearer tokens (`--auth-tokens`).")
    ]


@rules(
    (
        "!has(self.args) || !self.args.exists(a, a.split('=')[0] in ["
        + ", ".join(f"'{flag}'" for flag in OPERATOR_FLAGS)
        + "])",
        "server.args may not set what other fields of the spec set: " + ", ".join(OPERATOR_FLAGS),
    ),
    (
        f"!has(self.args) || self.args.map(a, size(a)).sum() <= {MAX_ARGS_CHARACTERS}",
        f"server.args may have {MAX_ARGS_CHARACTERS} characters in total",
    ),
)
class Server(Struct, frozen=True):
    """How `lepton serve` runs in the pods."""

    image: (
        Annotated[
            str,
            meta("Image of the server. Default: the operator's.", min_length=1, max_length=512, pattern=r"^[^\s]+$"),
        ]
        | None
    ) = None
    args: Annotated[
        list[Annotated[str, meta("An argument.", max_length=1024, pattern=NO_CONTROL)]],
        meta(
            "Further arguments of `lepton serve`, each as `--name=value`, such as `--max-model-len=8192`.",
            max_length=32,
            extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = []
    max_concurrent_streams: (
        Annotated[
            int,
            meta("Requests that one pod computes at once; more wait. Default: the server's, 256.", ge=1, le=65536),
        ]
        | None
    ) = None
    max_stream_seconds: (
        Annotated[
            int,
            meta(
                "Longest stream: longer ones end with FINISH_REASON_TIME_LIMIT. With at most drain.timeoutSeconds no "
                "rollout ever cuts a stream. Default: no bound.",
                ge=1,
                le=86400,
            ),
        ]
        | None
    ) = None
    tls: Annotated[TLS, meta("TLS of the inference port. Default: plaintext.")] | None = None
    auth: Annotated[Auth, meta("Who may call. Default: everyone who reaches the port.")] | None = None


class GPU(Struct, frozen=True):
    """Accelerators of one pod."""

    resource: Annotated[
        str,
        meta(
            "Extended resource that the device plugin offers: nvidia.com/gpu, or a MIG profile such as "
            "nvidia.com/mig-1g.10gb.",
            min_length=3,
            max_length=253,
            pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?$",
        ),
    ] = "nvidia.com/gpu"
    count: Annotated[int, meta("How many.", ge=1, le=16)] = 1


class Startup(Struct, frozen=True):
    """How long a pod may load."""

    timeout_seconds: Annotated[
        int, meta("A pod that does not serve this long after its start is restarted.", ge=10, le=86400)
    ] = 1800


@rules(
    ("self.minReplicas <= self.maxReplicas", "autoscaling.minReplicas must be at most autoscaling.maxReplicas"),
    ("self.panicSeconds <= self.stableSeconds", "autoscaling.panicSeconds must be at most autoscaling.stableSeconds"),
)
class Autoscaling(Struct, frozen=True, kw_only=True):
    """Replicas by load, as the pods themselves report it. With it `replicas` is ignored.

    Load is what runs, waits, and was refused (per second, times the mean service time), summed over the pods.
    """

    min_replicas: Annotated[int, meta("Fewest replicas; at least 1.", ge=1, le=1000)] = 1
    max_replicas: Annotated[int, meta("Most replicas.", ge=1, le=1000)]
    target_streams: Annotated[
        int,
        meta(
            "Requests that one replica should have. A replica's capacity is what counts as this many.", ge=1, le=65536
        ),
    ] = 16
    target_kv_percent: Annotated[
        int, meta("Share of a replica's KV cache that requests should use, in percent.", ge=1, le=100)
    ] = 80
    stable_seconds: Annotated[int, meta("Load is averaged over this long.", ge=5, le=3600)] = 60
    panic_seconds: Annotated[
        int,
        meta(
            "The mean over this long counts while the load is twice what the ready pods take, and stableSeconds after.",
            ge=1,
            le=600,
        ),
    ] = 6
    scale_down_seconds: Annotated[
        int, meta("Replicas go down to the most that was recommended during this long.", ge=0, le=86400)
    ] = 300


class WhenFull(Enum):
    """What a rollout does when there is no room for a pod more."""

    WAIT = "Wait"
    REPLACE_IN_PLACE = "ReplaceInPlace"


class OnUpgrade(Enum):
    """What an upgrade of the operator does to running pods."""

    KEEP = "Keep"
    ROLL = "Roll"


@rules(("self.maxSurge + self.maxUnavailable > 0", "rollout.maxSurge and rollout.maxUnavailable may not both be 0"))
class Rollout(Struct, frozen=True):
    """How pods are replaced when the spec changes."""

    max_surge: Annotated[int, meta("Pods above `replicas` during a rollout.", ge=0, le=1000)] = 1
    max_unavailable: Annotated[int, meta("Pods that may be missing during a rollout.", ge=0, le=1000)] = 0
    when_full: Annotated[
        WhenFull,
        meta(
            "What happens when no node has room for the pod above `replicas`: `Wait` keeps the old pods and says "
            "RolloutDeadlocked; `ReplaceInPlace` ends an old pod (draining it) to make room, one at a time."
        ),
    ] = WhenFull.WAIT
    on_upgrade: Annotated[
        OnUpgrade,
        meta(
            "What an upgrade of the operator does: `Keep` leaves the pods as they are until the spec changes; `Roll` "
            "rolls them to the new defaults."
        ),
    ] = OnUpgrade.KEEP


class Drain(Struct, frozen=True):
    """How a pod ends. Its termination grace is propagationSeconds + timeoutSeconds + 10 s."""

    propagation_seconds: Annotated[
        int,
        meta(
            "How long an ending pod goes on as before, while clients and endpoints learn. Longer than the server's "
            "--max-connection-age (30 s, give or take a tenth), when clients look addresses up anew, so that all have.",
            ge=0,
            le=600,
        ),
    ] = 40
    timeout_seconds: Annotated[int, meta("Then, how long running streams may take to end.", ge=0, le=86400)] = 60


class Disruption(Struct, frozen=True):
    """What evictions (node drains) may do."""

    max_unavailable: Annotated[int, meta("Pods that evictions may take at once.", ge=1, le=1000)] = 1


class NetworkPolicy(Struct, frozen=True):
    """Who may open connections to the pods."""

    enabled: Annotated[
        bool,
        meta(
            "Whether there is a NetworkPolicy: the inference port is open to `from`, the control port and the metrics "
            "port to the operator's pods and to `metricsFrom`."
        ),
    ] = False
    from_: Annotated[
        list[Peer], meta("Who may call the inference port. Default: this namespace's pods.", max_length=16)
    ] = []
    metrics_from: Annotated[list[Peer], meta("Who may read the metrics port and the control port.", max_length=8)] = []


_FETCHED = " || ".join(f"has(self.model.source.{kind})" for kind in FETCHED_KINDS)
_KEPT = "has(oldSelf.cache) && has(self.cache)"


@rules(
    ("has(self.cache) == has(oldSelf.cache)", "cache cannot be added or removed later: create the model anew"),
    (
        f"!({_KEPT}) || self.cache.accessMode == oldSelf.cache.accessMode",
        "cache.accessMode cannot change: create the model anew",
    ),
    (
        f"!({_KEPT}) || (has(self.cache.storageClassName) == has(oldSelf.cache.storageClassName) && "
        "(!has(self.cache.storageClassName) || self.cache.storageClassName == oldSelf.cache.storageClassName))",
        "cache.storageClassName cannot change: create the model anew",
    ),
    (
        f"!({_KEPT}) || (has(self.cache.existingClaim) == has(oldSelf.cache.existingClaim) && "
        "(!has(self.cache.existingClaim) || self.cache.existingClaim == oldSelf.cache.existingClaim))",
        "cache.existingClaim cannot change: create the model anew",
    ),
    (
        f"!({_KEPT} && has(self.cache.size) && has(oldSelf.cache.size)) || "
        "quantity(string(self.cache.size)).compareTo(quantity(string(oldSelf.cache.size))) >= 0",
        "cache.size may grow, but not shrink",
    ),
    (
        "!has(self.cache) || self.cache.accessMode != 'ReadWriteOnce' || "
        "(has(self.autoscaling) ? self.autoscaling.maxReplicas <= 1 : self.replicas <= 1)",
        "a ReadWriteOnce cache allows one replica: use ReadWriteMany, or no cache, for more",
    ),
    (f"!has(self.cache) || {_FETCHED}", "cache is for sources that are fetched: huggingFace, s3, gcs, http"),
    (
        f"!has(self.model.secretRef) || {_FETCHED}",
        "model.secretRef is for sources that are fetched: huggingFace, s3, gcs, http; for oci use pod.imagePullSecrets",
    ),
)
class LeptonModelSpec(Struct, frozen=True):
    """A model that is served: its source, its pods, and how many."""

    model: Annotated[ModelSource, meta("The model and where it comes from.")]
    quantization: Annotated[Quantization, meta("Number formats of weights and KV cache.")] = field(
        default_factory=Quantization
    )
    cache: (
        Annotated[
            Cache,
            meta("A volume that keeps fetched weights. Default: each pod fetches into an emptyDir of its own."),
        ]
        | None
    ) = None
    server: Annotated[Server, meta("How `lepton serve` runs in the pods.")] = field(default_factory=Server)
    gpu: (
        Annotated[
            GPU,
            meta("Accelerators of one pod. Absent: the pod computes on the CPU. Present: never silently on the CPU."),
        ]
        | None
    ) = None
    pod: Annotated[Pod, meta("The pods, as far as Kubernetes is concerned.")] = field(default_factory=Pod)
    startup: Annotated[Startup, meta("How long a pod may load.")] = field(default_factory=Startup)
    replicas: Annotated[
        int,
        meta(
            "Instances of the model; 0 stops it. Ignored with `autoscaling`. kubectl scale and an HPA write it.",
            ge=0,
            le=1000,
        ),
    ] = 1
    autoscaling: (
        Annotated[Autoscaling, meta("Replicas by load. Absent: `replicas` counts, and an HPA or KEDA may own it.")]
        | None
    ) = None
    rollout: Annotated[Rollout, meta("How pods are replaced when the spec changes.")] = field(default_factory=Rollout)
    drain: Annotated[Drain, meta("How a pod ends.")] = field(default_factory=Drain)
    disruption: Annotated[Disruption, meta("What evictions may do.")] = field(default_factory=Disruption)
    network_policy: Annotated[NetworkPolicy, meta("Who may open connections to the pods.")] = field(
        default_factory=NetworkPolicy
    )
