"""Where pods may run. A bounded part of Kubernetes' own types, with the same names, so that CEL stays affordable."""

from enum import Enum
from typing import Annotated

from lepton_operator.api.base import LABEL_KEY, LabelKey, Labels, LabelValue, Struct, meta, rules

Key = Annotated[str, meta("Label key.", min_length=1, max_length=317, pattern=LABEL_KEY)]
Weight = Annotated[int, meta("Weight among the preferences, 1 to 100.", ge=1, le=100)]


class SelectorOperator(Enum):
    """How a label selector compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class NodeSelectorOperator(Enum):
    """How a node selector compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GT = "Gt"
    LT = "Lt"


class LabelRequirement(Struct, frozen=True):
    """A requirement on one label."""

    key: Key
    operator: Annotated[SelectorOperator, meta("How the label is compared with `values`.")]
    values: Annotated[
        list[LabelValue], meta("What it is compared with; empty for Exists and DoesNotExist.", max_length=16)
    ] = []


class LabelSelector(Struct, frozen=True):
    """Labels that objects must have."""

    match_labels: Annotated[Labels, meta("Labels with exactly these values.")] = {}
    match_expressions: Annotated[list[LabelRequirement], meta("Further requirements.", max_length=8)] = []


class NodeRequirement(Struct, frozen=True):
    """A requirement on a node's label or field."""

    key: Key
    operator: Annotated[NodeSelectorOperator, meta("How it is compared with `values`.")]
    values: Annotated[
        list[LabelValue], meta("What it is compared with; empty for Exists and DoesNotExist.", max_length=16)
    ] = []


class NodeSelectorTerm(Struct, frozen=True):
    """Requirements that a node must meet all of."""

    match_expressions: Annotated[list[NodeRequirement], meta("On the node's labels.", max_length=8)] = []
    match_fields: Annotated[list[NodeRequirement], meta("On the node's fields (metadata.name).", max_length=8)] = []


class NodeSelector(Struct, frozen=True):
    """Terms of which a node must meet one."""

    node_selector_terms: Annotated[list[NodeSelectorTerm], meta("The terms.", min_length=1, max_length=8)]


class PreferredNode(Struct, frozen=True):
    """A preference for nodes."""

    weight: Weight
    preference: Annotated[NodeSelectorTerm, meta("The nodes that are preferred.")]


class NodeAffinity(Struct, frozen=True):
    """Which nodes."""

    required_during_scheduling_ignored_during_execution: (
        Annotated[NodeSelector, meta("Nodes must match this.")] | None
    ) = None
    preferred_during_scheduling_ignored_during_execution: Annotated[
        list[PreferredNode], meta("Nodes that match weigh more.", max_length=8)
    ] = []


class PodTerm(Struct, frozen=True):
    """Other pods to be near to, or far from."""

    topology_key: Annotated[Key, meta("Node label that says what near means, such as topology.kubernetes.io/zone.")]
    label_selector: Annotated[LabelSelector, meta("Which pods.")] | None = None
    namespaces: Annotated[
        list[Annotated[str, meta("A namespace.", min_length=1, max_length=63)]],
        meta("Their namespaces. Default: this one.", max_length=16),
    ] = []
    namespace_selector: Annotated[LabelSelector, meta("Their namespaces, by label.")] | None = None


class WeightedPodTerm(Struct, frozen=True):
    """A preference about other pods."""

    weight: Weight
    pod_affinity_term: Annotated[PodTerm, meta("The pods.")]


class PodAffinity(Struct, frozen=True):
    """Which pods to be near to, or far from."""

    required_during_scheduling_ignored_during_execution: Annotated[list[PodTerm], meta("Must hold.", max_length=8)] = []
    preferred_during_scheduling_ignored_during_execution: Annotated[
        list[WeightedPodTerm], meta("Weigh more where they hold.", max_length=8)
    ] = []


class Affinity(Struct, frozen=True):
    """As in a Pod."""

    node_affinity: Annotated[NodeAffinity, meta("Which nodes.")] | None = None
    pod_affinity: Annotated[PodAffinity, meta("Which pods to be near to.")] | None = None
    pod_anti_affinity: Annotated[PodAffinity, meta("Which pods to be far from.")] | None = None


class TaintEffect(Enum):
    """What a taint does."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class TolerationOperator(Enum):
    """How a toleration compares."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class Toleration(Struct, frozen=True):
    """A taint that the pods tolerate."""

    key: (
        Annotated[str, meta("The taint's key. Default: any, with operator Exists.", max_length=317, pattern=LABEL_KEY)]
        | None
    ) = None
    operator: Annotated[TolerationOperator, meta("How the value is compared.")] = TolerationOperator.EQUAL
    value: Annotated[LabelValue, meta("The taint's value.")] | None = None
    effect: Annotated[TaintEffect, meta("The taint's effect. Default: any.")] | None = None
    toleration_seconds: (
        Annotated[int, meta("How long NoExecute is tolerated. Default: for ever.", ge=0, le=86400)] | None
    ) = None


class WhenUnsatisfiable(Enum):
    """What happens to a pod that would break a spread constraint."""

    DO_NOT_SCHEDULE = "DoNotSchedule"
    SCHEDULE_ANYWAY = "ScheduleAnyway"


class TopologySpread(Struct, frozen=True):
    """How the pods of this model spread over zones or nodes. Only pods of the same revision are counted."""

    topology_key: Annotated[Key, meta("Node label that names the places, such as topology.kubernetes.io/zone.")]
    max_skew: Annotated[int, meta("Most pods that a place may have above another.", ge=1, le=1000)] = 1
    when_unsatisfiable: Annotated[WhenUnsatisfiable, meta("What happens to a pod that would break the constraint.")] = (
        WhenUnsatisfiable.DO_NOT_SCHEDULE
    )


class IPBlock(Struct, frozen=True):
    """A range of addresses."""

    cidr: Annotated[str, meta("The range, such as 10.0.0.0/8.", max_length=64, pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$")]
    except_: Annotated[
        list[Annotated[str, meta("A range.", max_length=64, pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$")]],
        meta("Ranges within it that are left out.", max_length=16),
    ] = []


@rules(
    (
        "has(self.ipBlock) != (has(self.podSelector) || has(self.namespaceSelector))",
        "a peer is either an ipBlock, or podSelector and/or namespaceSelector",
    )
)
class Peer(Struct, frozen=True):
    """Who may call."""

    pod_selector: (
        Annotated[LabelSelector, meta("Pods; of this namespace unless namespaceSelector is given.")] | None
    ) = None
    namespace_selector: Annotated[LabelSelector, meta("Namespaces.")] | None = None
    ip_block: Annotated[IPBlock, meta("Addresses.")] | None = None


__all__ = ["Affinity", "LabelKey", "Peer", "Toleration", "TopologySpread"]
