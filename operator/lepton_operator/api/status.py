"""The status of a LeptonModel."""

from enum import Enum
from typing import Annotated

from lepton_operator.api.base import Struct, meta


class ConditionType(Enum):
    """What a condition is about."""

    AVAILABLE = "Available"
    READY = "Ready"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    MODEL_CACHED = "ModelCached"
    SCALING_ACTIVE = "ScalingActive"


class Reason(Enum):
    """Why a condition is as it is. docs/operate.md explains each."""

    # Available
    PODS_SERVING = "PodsServing"
    NO_POD_SERVING = "NoPodServing"
    STOPPED = "Stopped"
    # Ready, Progressing
    ALL_REPLICAS_READY = "AllReplicasReady"
    CREATING = "Creating"
    ROLLING_OUT = "RollingOut"
    SCALING = "Scaling"
    SCALE_DOWN_HELD = "ScaleDownHeld"
    SETTLED = "Settled"
    ROLLOUT_DEADLOCKED = "RolloutDeadlocked"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    # ModelCached
    NOT_NEEDED = "NotNeeded"
    PER_POD = "PerPod"
    CACHED = "Cached"
    PRELOADING = "Preloading"
    PRELOAD_FAILED = "PreloadFailed"
    SOURCE_UNAUTHORIZED = "SourceUnauthorized"
    SOURCE_NOT_FOUND = "SourceNotFound"
    CACHE_FULL = "CacheFull"
    CHECKSUM_MISMATCH = "ChecksumMismatch"
    # Degraded
    AS_EXPECTED = "AsExpected"
    NAME_CONFLICT = "NameConflict"
    INSUFFICIENT_GPU = "InsufficientGPU"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL = "ImagePull"
    SECRET_NOT_FOUND = "SecretNotFound"
    VOLUME_NOT_FOUND = "VolumeNotFound"
    CRASH_LOOPING = "CrashLooping"
    QUOTA_EXCEEDED = "QuotaExceeded"
    PODS_FORBIDDEN = "PodsForbidden"
    APPLY_FAILED = "ApplyFailed"
    IMAGE_VOLUME_UNSUPPORTED = "ImageVolumeUnsupported"
    NAMESPACE_TERMINATING = "NamespaceTerminating"
    INVALID_SPEC = "InvalidSpec"
    # ScalingActive
    AUTOSCALING = "Autoscaling"
    NOT_CONFIGURED = "NotConfigured"
    METRICS_UNAVAILABLE = "MetricsUnavailable"
    METRICS_INCOMPLETE = "MetricsIncomplete"


class Condition(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One aspect of the state."""

    type: Annotated[str, meta("What it is about.", min_length=1, max_length=316)]
    status: Annotated[str, meta("True, False or Unknown.", max_length=7, pattern="^(True|False|Unknown)$")]
    reason: Annotated[str, meta("Why, as one word.", min_length=1, max_length=1024)]
    message: Annotated[str, meta("Why, as a sentence.", max_length=32768)] = ""
    last_transition_time: Annotated[
        str, meta("When `status` last changed.", extra={"format": "date-time"}, max_length=64)
    ]
    observed_generation: Annotated[int, meta("The metadata.generation that it describes.", ge=0)] = 0


class ModelStatus(Struct, frozen=True, omit_defaults=False):
    """The model that is served."""

    revision: Annotated[str, meta("What the source resolved to, such as a commit.", max_length=256)] | None = None


class ScalingMode(Enum):
    """How the autoscaler follows the load."""

    STABLE = "Stable"
    PANIC = "Panic"


class AutoscalingStatus(Struct, frozen=True, omit_defaults=False):
    """What the autoscaler does."""

    desired: Annotated[int, meta("Replicas that it wants.", ge=0)]
    load: Annotated[
        str,
        meta(
            "Requests running, waiting and refused, summed over the pods, when it last decided or the "
            "load had moved by a fifth; the live figure is a metric.",
            max_length=32,
        ),
    ] = "0"
    mode: Annotated[ScalingMode, meta("Stable follows the long average, Panic the short one.")] = ScalingMode.STABLE
    last_scale_time: (
        Annotated[str, meta("When `desired` last changed.", extra={"format": "date-time"}, max_length=64)] | None
    ) = None
    reason: Annotated[str, meta("Why it wants this many.", max_length=256)] = ""


class LeptonModelStatus(Struct, frozen=True, omit_defaults=False):
    """What is."""

    observed_generation: Annotated[int, meta("The metadata.generation that this status describes.", ge=0)] = 0
    replicas: Annotated[int, meta("Pods of any revision.", ge=0)] = 0
    ready_replicas: Annotated[int, meta("Of these, ready ones.", ge=0)] = 0
    updated_replicas: Annotated[int, meta("Pods of the newest revision.", ge=0)] = 0
    selector: Annotated[str, meta("Label selector of the pods, for the scale subresource.", max_length=512)] | None = (
        None
    )
    endpoint: (
        Annotated[
            str, meta("gRPC target for round_robin clients: dns:///NAME-headless.NAMESPACE.svc:50051.", max_length=512)
        ]
        | None
    ) = None
    model: Annotated[ModelStatus, meta("The model that is served.")] | None = None
    autoscaling: Annotated[AutoscalingStatus, meta("What the autoscaler does.")] | None = None
    conditions: Annotated[
        list[Condition],
        meta(
            "Available, Ready, Progressing, Degraded, ModelCached, ScalingActive.",
            max_length=16,
            extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = []
