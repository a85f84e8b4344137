"""What all scenarios share: the cluster, the images on it, the release of the chart, the models."""

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.api import Api, Object, eventually
from tests.cluster.models import model
from tests.cluster.nodes.cluster import NodeCluster
from tests.e2e.figures import Figures
from tests.e2e.pods import leader, leaving, ready, servers
from tests.e2e.size import Size

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "lepton"
HOME = "lepton-system"
RELEASE = "lepton"
ACCOUNT = f"system:serviceaccount:{HOME}:"
# Writes of everybody, and all that the operator asks for: its rights are compared with it.
AUDIT_POLICY: Object = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": [f"system:serviceaccounts:{HOME}"]},
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "Metadata"},
    ],
}
# What a release leaves, if anything, is among these.
CLUSTER_KINDS = ("Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "PriorityClass")
HOME_KINDS = (
    *("ConfigMap", "Deployment", "NetworkPolicy", "Pod", "PodDisruptionBudget"),
    *("Role", "RoleBinding", "Secret", "Service", "ServiceAccount"),
)
OF_EVERY_NAMESPACE = ("ConfigMap/kube-root-ca.crt", "ServiceAccount/default")
DRAIN = 90
"""Seconds that streams may take to end: `drain.timeoutSeconds` of the scenarios' models."""


@dataclass
class World:
    """A cluster with a release on it.

    Attributes:
        values: of the release, as --set takes them; an upgrade begins with them.
        before: objects of the cluster as a whole before the first release.
    """

    cluster: NodeCluster
    size: Size
    figures: Figures
    values: dict[str, str] = field(default_factory=dict)
    before: set[str] = field(default_factory=set)

    @property
    def api(self) -> Api:
        """Its administrator."""
        return self.cluster.api

    def objects(self) -> set[str]:
        """Objects of the cluster as a whole and of the release's namespace, as `Kind/name`."""
        found = {f"{kind}/{item['metadata']['name']}" for kind in CLUSTER_KINDS for item in self.api.list(kind)}
        found |= {f"{kind}/{item['metadata']['name']}" for kind in HOME_KINDS for item in self.api.list(kind, HOME)}
        return found.difference(OF_EVERY_NAMESPACE)

    def install(self) -> None:
        """The chart with its images, until the operator leads. Raises: CommandError."""
        self.cluster.helm("install", RELEASE, str(CHART), "--namespace", HOME, "--create-namespace", *self.set())

    def upgrade(self, values: Mapping[str, str]) -> None:
        """Another revision of the release, rolled out. Raises: CommandError."""
        self.cluster.helm("upgrade", RELEASE, str(CHART), "--namespace", HOME, "--wait", *self.set(values))

    def set(self, more: Mapping[str, str] | None = None) -> list[str]:
        """Flags of helm."""
        return [
            word for name, value in {**self.values, **(more or {})}.items() for word in ("--set", f"{name}={value}")
        ]

    def operators(self) -> Sequence[Object]:
        """The operator's pods."""
        return self.api.list("Pod", HOME, labels="app.kubernetes.io/name=lepton-operator")

    def leader(self) -> str:
        """Name of the operator's pod that leads; empty while none does."""
        return leader(self.api, HOME)

    def kill(self, pod: str, namespace: str) -> None:
        """kill -9 of a pod's containers."""
        pids = self.cluster.processes(pod, namespace)
        assert pids, f"{namespace}/{pod} has no processes"
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # It has ended with its parent.

    def namespace(self, name: str, labels: Mapping[str, str] | None = None) -> str:
        """A namespace, made where there is none."""
        self.api.apply({"kind": "Namespace", "metadata": {"name": name, "labels": dict(labels or {})}})
        return name

    def settled(self, name: str, namespace: str, replicas: int, seconds: float = 180) -> list[Object]:
        """The pods of a model once so many serve, and those that had to go are gone. Raises: AssertionError."""

        def found() -> list[Object] | None:
            pods = servers(self.api, name, namespace)
            if len(pods) == replicas and all(ready(pod) and not leaving(pod) for pod in pods):
                return list(pods)
            last[:] = [f"{p['metadata']['name']}: ready {ready(p)}, leaving {leaving(p)}" for p in pods]
            return None

        last: list[str] = []
        try:
            pods: list[Object] = eventually(found, f"{replicas} pods of {name}", seconds, every=0.3)
        except AssertionError as error:
            raise AssertionError(f"{name} has not {replicas} pods within {seconds:g} s, but {last}") from error
        return pods


def streaming(name: str, cpu: str, **spec: Any) -> Object:
    """A model whose texts do not depend on what else runs, and whose pods take so much of the machine at most.

    Its pods spread over the nodes; their requests are small, so that many fit a small machine.
    """
    spread = [{"topologyKey": "kubernetes.io/hostname", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}]
    base: dict[str, Any] = {
        "server": {
            "args": ["--batch-invariant", "--num-threads=1", "--kv-cache-memory=256MiB"],
            "maxConcurrentStreams": 256,
        },
        "drain": {"timeoutSeconds": DRAIN},
        "pod": {
            "resources": {
                "requests": {"cpu": "50m", "memory": "256Mi"},
                "limits": {"cpu": cpu, "memory": "2Gi"},
            },
            "topologySpread": spread,
        },
    }
    return model(name, **{**base, **spec})
