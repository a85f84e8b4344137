"""Objects of the API as the operator keeps them: only what it reads. Decoding drops the rest, unread."""

from typing import Any

import msgspec

from lepton_operator.api import KIND, LeptonModelSpec, LeptonModelStatus
from lepton_operator.api.base import json_name

Manifest = dict[str, Any]


class Part(msgspec.Struct, rename=json_name, frozen=True):
    """Base of the pruned types."""


class Owner(Part, frozen=True):
    """An owner reference."""

    uid: str
    kind: str = ""
    name: str = ""
    controller: bool = False


class Metadata(Part, frozen=True):
    """Of metadata."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[Owner] = []


class Object(Part, frozen=True):
    """Any object, as far as its metadata."""

    metadata: Metadata

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.metadata.namespace, self.metadata.name

    def owned_by(self, uid: str) -> bool:
        """Whether the object is controlled by that one."""
        return any(owner.uid == uid and owner.controller for owner in self.metadata.owner_references)

    def formerly_owned_by(self, model: "Object") -> bool:
        """Whether its controller is a LeptonModel of that name which is no more: the name has another uid now."""
        return any(
            owner.controller
            and owner.kind == KIND
            and owner.name == model.metadata.name
            and owner.uid != model.metadata.uid
            for owner in self.metadata.owner_references
        )


class Model(Object, frozen=True):
    """A LeptonModel."""

    spec: LeptonModelSpec
    status: LeptonModelStatus = LeptonModelStatus()


class Unreadable(Object, frozen=True):
    """A LeptonModel whose spec this operator cannot read."""

    status: LeptonModelStatus = LeptonModelStatus()
    problem: str = ""


class Child(Object, frozen=True):
    """An owned object of which all of the wanted fields may matter: kept as the bytes that came, less its status.

    Attributes:
        raw: JSON of metadata.labels, metadata.annotations, metadata.ownerReferences and everything beside metadata and
            status.
    """

    raw: bytes = b""


class PolicyCondition(Part, frozen=True):
    """A condition of Deployments, Jobs and Pods."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""


class DeploymentStatus(Part, frozen=True):
    """Of a Deployment's status."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    conditions: list[PolicyCondition] = []


class RollingUpdate(Part, frozen=True):
    """Of a Deployment's strategy."""

    max_surge: int | str = 1
    max_unavailable: int | str = 0


class Strategy(Part, frozen=True):
    """Of a Deployment's strategy."""

    rolling_update: RollingUpdate | None = None


class DeploymentSpec(Part, frozen=True):
    """Of a Deployment's spec."""

    replicas: int = 1
    strategy: Strategy = Strategy()


class Deployment(Child, frozen=True):
    """A Deployment."""

    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()


class JobStatus(Part, frozen=True):
    """Of a Job's status."""

    succeeded: int = 0
    failed: int = 0
    active: int = 0
    conditions: list[PolicyCondition] = []


class Job(Child, frozen=True):
    """A Job."""

    status: JobStatus = JobStatus()


class Waiting(Part, frozen=True):
    """A container that waits."""

    reason: str = ""
    message: str = ""


class Terminated(Part, frozen=True):
    """A container that has ended."""

    exit_code: int = 0
    reason: str = ""
    message: str = ""


class ContainerState(Part, frozen=True):
    """Of a container's state."""

    waiting: Waiting | None = None
    terminated: Terminated | None = None


class ContainerStatus(Part, frozen=True):
    """Of a container's status."""

    name: str
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodStatus(Part, frozen=True):
    """Of a pod's status."""

    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    conditions: list[PolicyCondition] = []
    container_statuses: list[ContainerStatus] = []
    init_container_statuses: list[ContainerStatus] = []


class PodSpec(Part, frozen=True):
    """Of a pod's spec."""

    node_name: str = ""


class Pod(Object, frozen=True):
    """A pod."""

    status: PodStatus = PodStatus()
    spec: PodSpec = PodSpec()

    @property
    def ready(self) -> bool:
        """Whether it serves."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)

    @property
    def leaving(self) -> bool:
        """Whether it is being deleted, or has ended."""
        return self.metadata.deletion_timestamp is not None or self.status.phase in ("Succeeded", "Failed")

    @property
    def revision(self) -> str:
        """Hash of the pod template that it was made from."""
        return self.metadata.labels.get("pod-template-hash", "")

    @property
    def unschedulable(self) -> str | None:
        """The scheduler's sentence, when no node takes it."""
        for c in self.status.conditions:
            if c.type == "PodScheduled" and c.status == "False" and c.reason == "Unschedulable":
                return c.message
        return None


class InvolvedObject(Part, frozen=True):
    """What an Event is about."""

    name: str = ""


class MountEvent(Object, frozen=True):
    """An Event of the kubelet: it could not mount a volume."""

    involved_object: InvolvedObject = InvolvedObject()
    message: str = ""
