"""A Kubernetes cluster of real nodes on this machine: control plane, kubelets with containerd, DNS, GPUs."""

import os
import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

from tests.cluster import build
from tests.cluster.api import Access, Api, Object, eventually
from tests.cluster.control_plane import AUDIT_POLICY, ControlPlane
from tests.cluster.nodes import dns, host, image, packages, settings
from tests.cluster.nodes.node import RunningNode, place
from tests.cluster.nodes.packages import NodesError

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet", "kube-proxy")
FLAGS = {
    "kube-apiserver": [
        "--endpoint-reconciler-type=lease",
        "--kubelet-preferred-address-types=InternalIP",
        "--default-not-ready-toleration-seconds=5",
        "--default-unreachable-toleration-seconds=5",
    ],
    "kube-controller-manager": ["--node-monitor-grace-period=16s"],
}


class CommandError(Exception):
    """kubectl or helm failed; the text is what it said."""


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
        gpus: how many `nvidia.com/gpu` each node offers; 0: none, and no device plugin.
        audit_policy: of the API server; None: that of ControlPlane, which logs writes only.
        flags: more flags for a program of the control plane, by its name.
    """

    dns: str = dns.ADDRESS

    def __init__(
        self, gpus: int = 4, audit_policy: Object | None = None, flags: dict[str, Sequence[str]] | None = None
    ) -> None:
        self._gpus = gpus
        self._audit_policy = audit_policy or AUDIT_POLICY
        self._flags: dict[str, Sequence[str]] = dict(FLAGS)
        for name, more in (flags or {}).items():
            self._flags[name] = [*FLAGS.get(name, ()), *more]
        self._programs: dict[str, Path] = {}
        self._host: host.Host | None = None
        self._plane: ControlPlane | None = None
        self._nodes: dict[str, RunningNode] = {}

    def start(self) -> None:
        """Start all of it, and wait until both nodes are Ready and DNS answers.

        Raises:
            NodesError, host.HostError, StartError, AssertionError: something isn't there, or does not start.
            BuildError: a program cannot be built.
        """
        packages.require_root()
        packages.install()
        self._programs = build.programs(*PROGRAMS, *build.NODES)
        self._host = host.Host()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        self._plane = ControlPlane(
            {name: self._programs[name] for name in PROGRAMS},
            namespaced=False,
            flags=self._flags,
            address=host.GATEWAY,
            audit_policy=self._audit_policy,
        )
        self.api.access.write(self.kubeconfig)
        places = [place(1), place(2)]
        for where in places:
            others = [other for other in places if other != where]
            self._nodes[where.name] = RunningNode(where, others, self.plane, self._programs, self._gpus)
        with ThreadPoolExecutor() as pool:
            list(pool.map(RunningNode.start, self._nodes.values()))
        self._route_services()
        for name in ("pause", "coredns"):
            self.import_program(name)
        self.wait_ready()
        for manifest in dns.manifests(replicas=len(places)):
            self.api.create(manifest)
        eventually(self._dns_runs, "CoreDNS on both nodes", 90)

    def _dns_runs(self) -> bool:
        found: Object = self.api.get("Deployment", "coredns", "kube-system").get("status", {})
        return found.get("readyReplicas") == len(self._nodes)

    def stop(self) -> None:
        """End everything that was started, and remove what it left on the machine; may be called again."""
        try:
            for node in self._nodes.values():
                node.kill()
        finally:
            self._nodes = {}
            if self._plane is not None:
                self._plane.close()
                self._plane = None
            if self._host is not None:
                self._host.close()
                self._host = None

    def __enter__(self) -> "NodeCluster":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def plane(self) -> ControlPlane:
        """The control plane. Raises: NodesError, when the cluster isn't running."""
        if self._plane is None:
            raise NodesError("the cluster has not been started")
        return self._plane

    @property
    def api(self) -> Api:
        """The administrator's API."""
        return self.plane.api

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig file."""
        return self.plane.folder / "admin.kubeconfig"

    @property
    def nodes(self) -> dict[str, Node]:
        """The nodes by name, as they are now."""
        found = [(node.place, node.pid) for node in self._nodes.values()]
        return {where.name: Node(where.name, where.address, where.pods, pid) for where, pid in found}

    def import_program(self, name: str) -> str:
        """Import the image of one of build.NODES, made by hand, on both nodes; its full name."""
        (imported,) = self.import_image(image.write(self._programs[name], self.plane.folder / f"{name}.tar"))
        return imported

    def import_image(self, archive: Path, nodes: Sequence[str] = ()) -> list[str]:
        """Import an OCI or docker archive on nodes (all), at once; the full names that it has there.

        Raises:
            NodesError: a node refuses it.
        """
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda name: self._import(name, archive), nodes or list(self._nodes)))
        return found[0]

    def _import(self, name: str, archive: Path) -> list[str]:
        words = ["ctr", "--address", settings.SOCKET, "--namespace", "k8s.io", "images", "import", "-"]
        with open(archive, "rb") as file:
            done = subprocess.run(
                self._nodes[name].command(*words), stdin=file, capture_output=True, text=True, check=False
            )
        names = re.findall(r"^unpacking (\S+)", done.stdout, re.MULTILINE)
        if done.returncode or not names:
            raise NodesError(f"{name} does not import {archive}: {(done.stderr or done.stdout).strip()[-2000:]}")
        return names

    def kill_node(self, name: str) -> None:
        """kill -9 of everything that runs on a node; its network is gone with it. Its disk stays."""
        self._nodes[name].kill()
        self._route_services()

    def start_node(self, name: str) -> None:
        """Start a killed node again, as after a power cut, without waiting for it to be Ready."""
        self._nodes[name].start()
        self._route_services()

    def _route_services(self) -> None:
        """Services' addresses lead through a node that lives: its kube-proxy knows the pods behind them."""
        alive = [node.place.address for node in self._nodes.values() if node.pid]
        if alive:
            host.run("ip", "route", "replace", host.SERVICE_RANGE, "via", alive[0])

    def restart_kubelet(self, name: str) -> None:
        """kill -9 of a node's kubelet; it is started again, pods go on."""
        self._nodes[name].restart("kubelet")

    def log(self, node: str, program: str) -> str:
        """The end of the log of a node's program: containerd, kubelet, kube-proxy, gpus, init."""
        return self._nodes[node].log(program)

    def wait_ready(self, *names: str, seconds: float = 60) -> None:
        """Wait until these nodes (all) are Ready. Raises: AssertionError."""
        for name in names or tuple(self._nodes):
            try:
                eventually(partial(self.ready, name), f"{name} is Ready", seconds)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{self.log(name, 'init')}\n{self.log(name, 'kubelet')}") from error

    def ready(self, name: str) -> bool:
        """Whether a node's condition Ready is True."""
        found = self.api.find("Node", name) or {}
        conditions = found.get("status", {}).get("conditions", [])
        return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

    @property
    def environment(self) -> dict[str, str]:
        """Variables for programs that use the cluster as administrator."""
        folder = self.plane.folder
        path = f"{self._programs['kubectl'].parent}:{os.environ.get('PATH', packages.PATH)}"
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": path, "HOME": str(folder), "NO_PROXY": "*"}

    def kubectl(self, *words: str, given: str = "", check: bool = True, seconds: float = 120) -> str:
        """kubectl's standard output, as administrator; `given` is its standard input. Raises: CommandError."""
        return self._run([str(self._programs["kubectl"]), *words], given, check, seconds)

    def helm(self, *words: str, given: str = "", check: bool = True, seconds: float = 300) -> str:
        """helm's standard output, as administrator. Raises: CommandError."""
        return self._run([str(build.program("helm")), *words], given, check, seconds)

    def _run(self, command: list[str], given: str, check: bool, seconds: float) -> str:
        try:
            done = subprocess.run(
                command,
                input=given,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                env=self.environment,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"{' '.join(command)} took more than {seconds:g} s") from error
        if check and done.returncode:
            raise CommandError(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr}{done.stdout}")
        return done.stdout

    def access(self, user: str, groups: Sequence[str] = ()) -> Access:
        """A client certificate for somebody, as a way to the API."""
        return self.plane.access(user, groups)

    def target(self, service: str, namespace: str = "default", port: int = 50051) -> str:
        """A gRPC target for a client on the host, resolved by the cluster's own DNS (by c-ares, gRPC's default)."""
        return f"dns://{self.dns}:53/{service}.{namespace}.svc.{dns.DOMAIN}:{port}"

    def processes(self, pod: str, namespace: str = "default") -> list[int]:
        """Host process ids of a pod's containers, oldest first; its pause container is left out.

        Raises:
            ApiError: there is no such pod.
        """
        found = self.api.get("Pod", pod, namespace)
        statuses = found["status"].get("containerStatuses", [])
        containers = {status.get("containerID", "").rpartition("/")[2] for status in statuses} - {""}
        pids: set[int] = set()
        for root in host.hierarchies():
            for folder in (root / host.OWNER / found["spec"]["nodeName"]).rglob("cgroup.procs"):
                if folder.parent.name in containers:
                    pids.update(int(line) for line in folder.read_text().split())
        return sorted(pids)
