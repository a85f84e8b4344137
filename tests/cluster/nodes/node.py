"""One running node: its namespaces, its link to the bridge, its programs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.api import eventually
from tests.cluster.control_plane import ControlPlane
from tests.cluster.nodes import host, settings
from tests.cluster.nodes.packages import PATH, NodesError

INIT = Path(__file__).with_name("init.py")


@dataclass(frozen=True)
class Place:
    """What of the cluster's network is a node's.

    Attributes:
        name: of the node. link: of its end of the link on the host. address: its own. pods: the range of its pods'.
    """

    name: str
    link: str
    address: str
    pods: str


def place(number: int) -> Place:
    """The place of a node: 1 is node-a."""
    return Place(
        name=f"node-{chr(ord('a') + number - 1)}",
        link=f"{host.BRIDGE.rstrip('0')}{number}",
        address=f"{host.GATEWAY.rpartition('.')[0]}.{10 + number}",
        pods=f"10.244.{number}.0/24",
    )


class RunningNode:
    """A node, from its first process on; `start` may follow `kill`, and finds the same disk.

    Args:
        programs: paths of kubelet, kube-proxy and gpus.
        others: the nodes that its pods reach.
        gpus: how many it offers.
    """

    def __init__(
        self, where: Place, others: Sequence[Place], plane: ControlPlane, programs: dict[str, Path], gpus: int
    ) -> None:
        self.place = where
        self.folder = host.FOLDER / where.name
        self.pid = 0
        self._others = others
        self._programs = programs
        self._gpus = gpus
        self._init: subprocess.Popen[str] | None = None
        self._configure(plane)

    def _configure(self, plane: ControlPlane) -> None:
        name, folder = self.place.name, self.folder
        (folder / "cni").mkdir(parents=True)
        (folder / "containerd.toml").write_text(settings.containerd(folder))
        (folder / "cni" / "10-pods.conflist").write_text(json.dumps(settings.network(self.place.pods)))
        config = settings.kubelet(self.place.address, f"/{host.OWNER}/{name}", plane.authority, folder)
        (folder / "kubelet.json").write_text(json.dumps(config))
        kubelet = plane.kubeconfig(name, f"system:node:{name}", ["system:nodes"])
        proxy = plane.kubeconfig(f"{name}-proxy", "system:kube-proxy")
        self._commands = {
            "containerd": ["/usr/bin/containerd", f"--config={folder / 'containerd.toml'}"],
            "kubelet": [
                str(self._programs["kubelet"]),
                f"--config={folder / 'kubelet.json'}",
                f"--kubeconfig={kubelet}",
                f"--hostname-override={name}",
                f"--node-ip={self.place.address}",
            ],
            "kube-proxy": [str(self._programs["kube-proxy"]), *settings.kube_proxy(name, proxy)],
        }
        if self._gpus:
            self._commands["gpus"] = [str(self._programs["gpus"]), str(self._gpus)]

    def start(self) -> None:
        """Start everything, the others once containerd answers. Raises: NodesError, host.HostError."""
        spaces = ["--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
        with open(self.folder / "init.log", "ab") as log:
            self._init = subprocess.Popen(
                ["unshare", *spaces, sys.executable, "-I", "-S", str(INIT), str(self.folder), self.place.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                text=True,
                env={"PATH": PATH},
            )
        assert self._init.stdout is not None
        self.pid = int(self._init.stdout.readline() or 0)
        if not self.pid:
            raise NodesError(f"{self.place.name} has no first process:\n{self.log('init')}")
        host.make_cgroup(self.place.name)  # The kubelet's root, which holds no process itself.
        for cgroup in host.make_cgroup(self.place.name, "programs"):
            (cgroup / "cgroup.procs").write_text(str(self.pid))
        self._connect()
        self._tell("go")
        if self._init.stdout.readline() != "ready\n":
            raise NodesError(f"{self.place.name} cannot be set up:\n{self.log('init')}")
        for name, command in self._commands.items():
            self._tell(json.dumps({"start": name, "command": command}))
            if name == "containerd":  # A kubelet ends that finds none.
                self._wait_for_containerd()

    def _connect(self) -> None:
        host.run("ip", "link", "add", self.place.link, "type", "veth", "peer", "name", "eth0", "netns", str(self.pid))
        host.run("ip", "link", "set", self.place.link, "master", host.BRIDGE, "up")
        lines = [
            "link set lo up",
            f"address add {self.place.address}/{host.LENGTH} dev eth0",
            "link set eth0 up",
            f"route add default via {host.GATEWAY}",
            *(f"route add {other.pods} via {other.address}" for other in self._others),
        ]
        host.run("nsenter", f"--net=/proc/{self.pid}/ns/net", "ip", "-batch", "-", given="\n".join(lines))
        host.run("ip", "route", "replace", self.place.pods, "via", self.place.address)

    def _wait_for_containerd(self) -> None:
        try:
            eventually(self._answers, f"containerd of {self.place.name}", 60)
        except AssertionError as error:
            raise NodesError(f"{error}\n{self.log('init')}\n{self.log('containerd')}") from error

    def _answers(self) -> bool:
        try:
            host.run(*self.command("ctr", "--address", settings.SOCKET, "version"))
        except host.HostError:
            return False
        return True

    def command(self, *words: str) -> list[str]:
        """A command line that runs these words on the node."""
        return ["nsenter", "--target", str(self.pid), "--mount", "--net", "--uts", "--ipc", "--pid", *words]

    def restart(self, program: str) -> None:
        """kill -9 of one program, and start it again."""
        self._tell(json.dumps({"restart": program}))

    def kill(self) -> None:
        """kill -9 of everything, and wait until nothing of it is left but the disk."""
        if self._init is None:
            return
        # `unshare` is its parent, and ends when it has reaped it: while that is there, the id is nobody else's.
        if self.pid and self._init.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        else:
            self._init.kill()
        self._init.wait()
        assert self._init.stdin is not None
        assert self._init.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._init.stdin.close()
        self._init.stdout.close()
        self._init, self.pid = None, 0
        host.end(self.place.name)
        subprocess.run(["ip", "link", "delete", self.place.link], capture_output=True, check=False)  # Gone, perhaps.

    def log(self, program: str) -> str:
        """The end of a program's log."""
        path = self.folder / f"{program}.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def _tell(self, line: str) -> None:
        if self._init is None or self._init.stdin is None:
            raise NodesError(f"{self.place.name} is not running")
        self._init.stdin.write(line + "\n")
        self._init.stdin.flush()
