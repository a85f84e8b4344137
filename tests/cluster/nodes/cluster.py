"""A Kubernetes cluster of real nodes on this machine: control plane, kubelets with containerd, kube-proxy, DNS, GPUs."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.cluster.api import Access, Api, Object


@dataclass(frozen=True)
class Node:
    """A node.

    Attributes:
        name: of the Node object and its host name. address: its InternalIP, which the host reaches.
        pods: the range of its pods' addresses, which the host reaches as well.
        pid: host process id of the first process in its namespaces (`nsenter --target PID --all`); 0 when it is dead.
    """

    name: str
    address: str
    pods: str
    pid: int


class NodeCluster(AbstractContextManager["NodeCluster"]):
    """Two nodes, node-a and node-b, and their control plane; needs root, and is the only one on its machine.

    The host reaches pods' and services' addresses, so clients of tests run in the test's own process.

    Args:
        gpus: how many `nvidia.com/gpu` each node offers.
        audit_policy: of the API server; None: that of ControlPlane, which logs writes only.
        flags: more flags for a program of the control plane, by its name.
    """

    api: Api
    kubeconfig: Path
    nodes: dict[str, Node]
    dns: str = "10.96.0.10"

    def __init__(
        self, gpus: int = 4, audit_policy: Object | None = None, flags: dict[str, Sequence[str]] | None = None
    ) -> None: ...

    def start(self) -> None:
        """Start all of it, and wait until both nodes are Ready and DNS answers. Raises: NodesError."""

    def stop(self) -> None:
        """End everything that was started, and remove what it left on the machine."""

    def __enter__(self) -> "NodeCluster":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def import_image(self, archive: Path, nodes: Sequence[str] = ()) -> list[str]:
        """Import an OCI or docker archive on nodes (all), at once; the full names that it has there."""
        raise NotImplementedError

    def kill_node(self, name: str) -> None:
        """kill -9 of everything that runs on a node; its network is gone with it. Its disk stays."""

    def start_node(self, name: str) -> None:
        """Start a killed node again, as after a power cut, without waiting for it to be Ready."""

    def restart_kubelet(self, name: str) -> None:
        """kill -9 of a node's kubelet; it is started again, pods go on."""

    def wait_ready(self, *names: str, seconds: float = 60) -> None:
        """Wait until these nodes (all) are Ready. Raises: AssertionError."""

    def kubectl(self, *words: str, given: str = "", check: bool = True, seconds: float = 120) -> str:
        """kubectl's standard output, as administrator; `given` is its standard input. Raises: CommandError."""
        raise NotImplementedError

    def helm(self, *words: str, given: str = "", check: bool = True, seconds: float = 300) -> str:
        """helm's standard output, as administrator. Raises: CommandError."""
        raise NotImplementedError

    def access(self, user: str, groups: Sequence[str] = ()) -> Access:
        """A client certificate for somebody, as a way to the API."""
        raise NotImplementedError

    def target(self, service: str, namespace: str = "default", port: int = 50051) -> str:
        """A gRPC target for a client on the host, resolved by the cluster's own DNS (needs gRPC's c-ares resolver)."""
        return f"dns://{self.dns}/{service}.{namespace}.svc.cluster.local:{port}"

    def processes(self, pod: str, namespace: str = "default") -> list[int]:
        """Host process ids of a pod's containers, its pause container left out."""
        raise NotImplementedError
