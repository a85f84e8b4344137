"""The pods of a model, as far as Kubernetes is concerned."""

from typing import Annotated

from msgspec import field

from lepton_operator.api.base import (
    LABEL_KEY,
    NO_CONTROL,
    LabelKey,
    Labels,
    ObjectName,
    Quantity,
    Struct,
    meta,
    rules,
)
from lepton_operator.api.scheduling import Affinity, Toleration, TopologySpread

MAX_ENV_CHARACTERS = 24_000
MAX_ANNOTATION_CHARACTERS = 6_000


class Resources(Struct, frozen=True):
    """Compute resources of the server's container, beside `gpu`."""

    requests: Annotated[dict[LabelKey, Quantity], meta("What is reserved.", max_length=8)] = {}
    limits: Annotated[dict[LabelKey, Quantity], meta("What may be used at most.", max_length=8)] = {}


class EnvVar(Struct, frozen=True):
    """An environment variable."""

    name: Annotated[str, meta("Its name.", min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    value: Annotated[str, meta("Its value.", max_length=4096, pattern=NO_CONTROL)] = ""


class PullSecret(Struct, frozen=True):
    """A Secret that images are pulled with."""

    name: Annotated[ObjectName, meta("The Secret.")]


_OURS = "k.startsWith('lepton.dev/') || k.startsWith('app.kubernetes.io/')"


@rules(
    (
        f"!has(self.labels) || !self.labels.exists(k, {_OURS})",
        "pod.labels may not begin with lepton.dev/ or app.kubernetes.io/",
    ),
    (
        "!has(self.annotations) || !self.annotations.exists(k, k.startsWith('lepton.dev/'))",
        "pod.annotations may not begin with lepton.dev/",
    ),
    (
        "!has(self.annotations) || "
        f"self.annotations.map(k, size(self.annotations[k])).sum() <= {MAX_ANNOTATION_CHARACTERS}",
        f"pod.annotations may have {MAX_ANNOTATION_CHARACTERS} characters in total",
    ),
    (
        f"!has(self.env) || self.env.map(e, has(e.value) ? size(e.value) : 0).sum() <= {MAX_ENV_CHARACTERS}",
        f"the values of pod.env may have {MAX_ENV_CHARACTERS} characters in total; mount larger ones from a file",
    ),
)
class Pod(Struct, frozen=True):
    """The pods, as far as Kubernetes is concerned."""

    resources: Annotated[Resources, meta("Compute resources, beside `gpu`.")] = field(default_factory=Resources)
    env: Annotated[
        list[EnvVar],
        meta(
            "Environment variables.",
            max_length=32,
            extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = []
    labels: Annotated[Labels, meta("Further labels of the pods.")] = {}
    annotations: Annotated[
        dict[
            Annotated[str, meta("A key.", min_length=1, max_length=317, pattern=LABEL_KEY)],
            Annotated[str, meta("A value.", max_length=4096, pattern=NO_CONTROL)],
        ],
        meta("Further annotations of the pods.", max_length=16),
    ] = {}
    image_pull_secrets: Annotated[
        list[PullSecret],
        meta(
            "Secrets that images are pulled with.",
            max_length=8,
            extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = []
    service_account_name: (
        Annotated[ObjectName, meta("ServiceAccount of the pods. Default: one of this model's own, without a token.")]
        | None
    ) = None
    node_selector: Annotated[Labels, meta("Labels that a node must have.")] = {}
    tolerations: Annotated[list[Toleration], meta("Taints that the pods tolerate.", max_length=16)] = []
    affinity: Annotated[Affinity, meta("Which nodes, and which pods to be near to or far from.")] | None = None
    topology_spread: Annotated[
        list[TopologySpread],
        meta(
            "How the pods spread over zones or nodes.",
            max_length=4,
            extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["topologyKey", "whenUnsatisfiable"]},
        ),
    ] = []
    priority_class_name: Annotated[ObjectName, meta("PriorityClass of the pods.")] | None = None
    runtime_class_name: Annotated[ObjectName, meta("RuntimeClass of the pods.")] | None = None
    shm_size: Annotated[Quantity, meta("Size of /dev/shm. Default: 1Gi with a GPU, else the runtime's.")] | None = None
