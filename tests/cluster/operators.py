"""The shipped operator, as processes of its own, with the rights that `lepton operator rbac` prints and no more."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lepton_operator.crd import crd
from lepton_operator.rbac import rules
from tests.cluster.api import Api, eventually
from tests.cluster.control_plane import ControlPlane, free_ports

LEPTON = str(Path(sys.executable).parent / "lepton")
GROUP = "lepton-operators"
NAMESPACE = "lepton-system"
LEASE = "lepton-operator"
# A successor of a killed operator waits for the Lease to run out: here not long.
SHORT_LEASE = ("--lease-duration=6", "--renew-deadline=5.5", "--retry-period=0.5")
NO_LEASE = ("--no-leader-election",)


def install(api: Api) -> None:
    """The CRD, the operator's namespace and its rights; again and again without harm."""
    body = crd()
    api.apply(body)
    name = body["metadata"]["name"]

    def established() -> bool:
        found = api.get("CustomResourceDefinition", name)
        return any(
            c["type"] == "Established" and c["status"] == "True"
            for c in found.get("status", {}).get("conditions") or []
        )

    eventually(established, "the CRD is established", every=0.05)
    api.apply({"kind": "Namespace", "metadata": {"name": NAMESPACE}})
    api.apply({"kind": "ClusterRole", "metadata": {"name": "lepton-operator"}, "rules": rules(namespaced=False)})
    api.apply(
        {
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "lepton-operator"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "lepton-operator"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": GROUP}],
        }
    )


class Operator:
    """A running `lepton operator`.

    Args:
        name: its user is `operator-NAME`, by which the audit log tells operators apart.
        server: another way to the API server than the straight one: a relay's.
        args: more arguments of the command.
        group: whose rights it has. home: the namespace that it takes for its own.
    """

    def __init__(
        self,
        plane: ControlPlane,
        name: str = "a",
        args: Sequence[str] = SHORT_LEASE,
        server: str | None = None,
        group: str = GROUP,
        home: str = NAMESPACE,
    ) -> None:
        self.plane = plane
        self.name = name
        self.home = home
        self.user = f"operator-{name}"
        self.args = list(args)
        folder = plane.folder / "operators"
        folder.mkdir(exist_ok=True)
        self.kubeconfig = folder / f"{name}.kubeconfig"
        if not self.kubeconfig.exists():
            access = plane.access(self.user, [group])
            (replace(access, server=server) if server else access).write(self.kubeconfig)
        self.log = folder / f"{name}.log"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        environment |= {"KUBECONFIG": str(self.kubeconfig), "POD_NAME": self.user, "POD_NAMESPACE": self.home}
        (self.metrics_port,) = free_ports(1)
        own = ("--metrics-host=127.0.0.1", f"--metrics-port={self.metrics_port}", f"--lease-name={LEASE}")
        command = self.plane.command(LEPTON, "operator", *own, *self.args)
        with open(self.log, "ab") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=True
            )
        self.plane.janitor.process(process.pid)
        return process

    def restart(self, args: Sequence[str] | None = None) -> None:
        """Start it again after it has ended, with the same or other arguments."""
        assert self.process.poll() is not None, "it still runs"
        self.args = self.args if args is None else list(args)
        self.process = self._start()

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 30) -> int:
        """SIGTERM, and its exit status. Raises: subprocess.TimeoutExpired."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def close(self) -> None:
        """End it however it is."""
        self.kill()

    def text(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace")

    def peak_mb(self) -> float:
        """Peak resident memory, in MiB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmHWM: the process has ended")

    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def quiet(plane: ControlPlane, users: Sequence[str], still: float = 1.0, seconds: float = 60) -> None:
    """Wait until none of the users has written anything but a Lease for `still` seconds."""
    deadline = time.monotonic() + seconds
    mark = plane.audit.mark()
    since = time.monotonic()
    last: list[str] = []
    while time.monotonic() - since < still:
        here = plane.audit.mark()
        writes = [w for w in plane.audit.since(mark) if w.user in users and w.resource != "leases"]
        mark = here
        if writes:
            last = [w.what for w in writes[-5:]]
            since = time.monotonic()
        if time.monotonic() > deadline:
            raise AssertionError(f"not quiet within {seconds:g} s; last writes: {last}")
        time.sleep(0.1)
