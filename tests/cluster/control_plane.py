"""A Kubernetes control plane of real programs, in a network namespace of its own or on loopback."""

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.api import Access, Api, Object, eventually
from tests.cluster.audit import Audit
from tests.cluster.certificates import Authority, Pair
from tests.cluster.janitor import Janitor
from tests.cluster.kwok import STAGES
from tests.cluster.namespace import POD_RANGE, Namespace

SERVICE_RANGE = "10.96.0.0/16"
SERVERS = ("etcd", "kube-apiserver")
CONTROLLERS = ("kube-controller-manager", "kube-scheduler", "kwok")
# Reads are left out: a test asks who wrote what, and when.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "None", "verbs": ["get", "list", "watch"]}, {"level": "Metadata"}],
}


class StartError(Exception):
    """A program of the control plane did not start; the text holds the end of its log."""


@dataclass
class Program:
    """A running program, its log, and how to start it again."""

    name: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes]

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


class ControlPlane:
    """etcd and the API server; with all programs also the controllers, the scheduler, and kwok for nodes and pods.

    Everything listens on 127.0.0.1 (the API server on `address`) and speaks TLS with client certificates; RBAC is on,
    and every write is audited.

    Args:
        programs: paths by name; of CONTROLLERS those that are missing are not started.
        namespace: where it runs; None: on the machine's own loopback.
        flags: more flags for a program, by its name; a later one wins over an earlier one.
        address: of the API server, as all who use it know it.
        audit_policy: what the API server logs.
    """

    def __init__(
        self,
        programs: dict[str, Path],
        namespaced: bool = True,
        flags: dict[str, Sequence[str]] | None = None,
        address: str = "127.0.0.1",
        audit_policy: Object = AUDIT_POLICY,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lepton-cluster-"))
        self.janitor = Janitor()
        self.janitor.folder(self.folder)
        self.programs: dict[str, Program] = {}
        self.namespace: Namespace | None = None
        self._paths = programs
        self._flags = flags or {}
        self._address = address
        self._audit_policy = audit_policy
        self.controllers = all(name in programs for name in CONTROLLERS)
        try:
            if namespaced:
                self.namespace = Namespace(self.folder)
                self.janitor.process(self.namespace.keeper.pid)
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        keys = self._authority = Authority(self.folder / "keys")
        self._port, etcd, peer = free_ports(3)
        names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        hosts = [*{"127.0.0.1": None, self._address: None}, *names, "10.96.0.1"]
        self._serving = keys.sign("server", "kube-apiserver", hosts=hosts)
        self._kubelets = keys.sign("kubelets", "kube-apiserver-kubelet-client", ["system:masters"])
        self._tokens = keys.key("service-accounts")
        self.server = f"https://{self._address}:{self._port}"
        self._launch("etcd", self._etcd_flags(etcd, peer))
        self.audit_log = self.folder / "audit.log"
        self._launch("kube-apiserver", self._api_server_flags(etcd))
        self.api = Api(self.access("tests-admin", ["system:masters"]))
        self.wait_ready()
        self.audit = Audit(self.audit_log)
        flags = (self._controller_manager_flags, self._scheduler_flags, self._kwok_flags)
        for name, of_program in zip(CONTROLLERS, flags, strict=True):
            if name in self._paths:
                self._launch(name, of_program())
        if "kube-controller-manager" in self.programs:
            account = "the ServiceAccount that pods need"
            eventually(lambda: self.api.find("ServiceAccount", "default"), account, every=0.05)

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until the API server answers. Raises: StartError, when it or etcd has ended or time is up."""

        def ready() -> bool:
            for name in SERVERS:
                program = self.programs[name]
                if program.process.poll() is not None:
                    raise StartError(f"{name} ended with {program.process.returncode}:\n{program.tail()}")
            return self.api.ready()

        try:
            eventually(ready, "API server ready", seconds, every=0.05)
        except AssertionError as error:
            raise StartError(f"{error}\n{self.programs['kube-apiserver'].tail()}") from error

    def restart(self, name: str, wait: bool = True) -> None:
        """Kill a program and start it again with the same flags and data."""
        program = self.programs[name]
        program.process.kill()
        program.process.wait()
        self._spawn(program.name, program.command, program.log)
        if wait:
            self.wait_ready()

    def recover(self) -> None:
        """After a restart: wait for the API, and start kwok anew: unlike a kubelet it forgets what failed meanwhile."""
        self.wait_ready()
        if "kwok" in self.programs:
            self.restart("kwok", wait=False)

    def access(self, user: str, groups: Sequence[str] = ()) -> Access:
        """A client certificate for somebody, as a way to the API."""
        pair = self._authority.sign(f"client-{user.replace(':', '-')}", user, groups)
        return self._access(pair)

    @property
    def authority(self) -> Path:
        """The certificate of the authority that signed all the others."""
        return self._authority.pair.certificate

    @property
    def serving(self) -> Pair:
        """The certificate of servers on this machine's loopback."""
        return self._serving

    def command(self, *words: str) -> list[str]:
        """A command line that runs where the control plane is."""
        return list(words) if self.namespace is None else self.namespace.command(*words)

    def close(self) -> None:
        """End everything that was started, and remove the folder."""
        if self.namespace is not None:
            self.namespace.close()
        self.janitor.close()
        for program in self.programs.values():
            program.process.wait()

    def _access(self, pair: Pair) -> Access:
        dial = None if self.namespace is None else self.namespace.connect
        return Access(self.server, self._authority.pair.certificate, pair.certificate, pair.key, dial=dial)

    def _launch(self, name: str, flags: Sequence[str]) -> None:
        command = self.command(str(self._paths[name]), *flags, *self._flags.get(name, ()))
        self._spawn(name, command, self.folder / f"{name}.log")

    def _spawn(self, name: str, command: list[str], log: Path) -> None:
        # Only what a Go program needs: a proxy of the machine would be asked for pods' addresses.
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder)}
        with open(log, "ab") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment,
                cwd=self.folder,
                start_new_session=True,
            )
        self.janitor.process(process.pid)
        self.programs[name] = Program(name, command, log, process)

    def _write(self, name: str, content: Object) -> str:
        path = self.folder / name
        path.write_text(json.dumps(content))  # JSON is YAML.
        return str(path)

    def kubeconfig(self, name: str, user: str, groups: Sequence[str] = ()) -> str:
        """The path of a new kubeconfig file for somebody."""
        pair = self._authority.sign(name, user, groups)
        return str(self._access(pair).write(self.folder / f"{name}.kubeconfig"))

    def _etcd_flags(self, port: int, peer: int) -> list[str]:
        pair, ca = self._serving, self._authority.pair.certificate
        return [
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls=https://127.0.0.1:{port}",
            f"--advertise-client-urls=https://127.0.0.1:{port}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--cert-file={pair.certificate}",
            f"--key-file={pair.key}",
            f"--trusted-ca-file={ca}",
            "--client-cert-auth",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _api_server_flags(self, etcd: int) -> list[str]:
        pair, ca = self._serving, self._authority.pair.certificate
        return [
            f"--etcd-servers=https://127.0.0.1:{etcd}",
            f"--etcd-cafile={ca}",
            f"--etcd-certfile={pair.certificate}",
            f"--etcd-keyfile={pair.key}",
            f"--bind-address={self._address}",
            f"--advertise-address={self._address}",
            f"--kubelet-client-certificate={self._kubelets.certificate}",
            f"--kubelet-client-key={self._kubelets.key}",
            "--endpoint-reconciler-type=none",
            f"--secure-port={self._port}",
            f"--tls-cert-file={pair.certificate}",
            f"--tls-private-key-file={pair.key}",
            f"--client-ca-file={ca}",
            "--authorization-mode=Node,RBAC",
            "--anonymous-auth=false",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={self._tokens}",
            f"--service-account-key-file={self._tokens}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            f"--audit-policy-file={self._write('audit-policy.json', self._audit_policy)}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-maxsize=100000",  # MB: it is read as one file.
            "--profiling=false",
        ]

    def _controller_manager_flags(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig('controller-manager', 'system:kube-controller-manager')}",
            f"--root-ca-file={self._authority.pair.certificate}",
            f"--service-account-private-key-file={self._tokens}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--concurrent-deployment-syncs=20",
            "--concurrent-replicaset-syncs=20",
            "--concurrent-gc-syncs=50",
            "--profiling=false",
        ]

    def _scheduler_flags(self) -> list[str]:
        config = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "leaderElection": {"leaderElect": False},
            "clientConnection": {
                "kubeconfig": self.kubeconfig("scheduler", "system:kube-scheduler"),
                "qps": 500,
                "burst": 1000,
            },
        }
        return [f"--config={self._write('scheduler.json', config)}", "--secure-port=0"]

    def _kwok_flags(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig('kwok', 'kwok', ['system:masters'])}",
            f"--config={self._write_all('stages.yaml', STAGES)}",
            "--manage-all-nodes",
            f"--cidr={POD_RANGE}",
            "--node-ip=127.0.0.1",
            "--node-lease-duration-seconds=40",
        ]

    def _write_all(self, name: str, documents: Sequence[Object]) -> str:
        path = self.folder / name
        path.write_text("\n---\n".join(json.dumps(document) for document in documents))
        return str(path)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listened on a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [made.getsockname()[1] for made in sockets]
    for made in sockets:
        made.close()
    return ports
