"""The first process of a node, in namespaces of its own: makes the node's file systems, starts its programs, reaps.

    unshare ... python -I -S init.py FOLDER NAME

It says its process id as the host sees it, waits for a line, and then obeys lines of JSON on its standard input:
{"start": NAME, "command": [...]}, {"restart": NAME}. When that closes it ends, and the kernel ends all of the node.
Programs write to FOLDER/NAME.log. The standard library alone: this is process 1.
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from pathlib import Path

# What a kubelet sets for the whole machine; here it finds these values already, and leaves the machine's alone.
KERNEL = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
NETWORK = {"net/ipv4/ip_forward": 1, "net/bridge/bridge-nf-call-iptables": 1}
# Folders whose paths programs have built in. What they hold outlives the node's processes, like a disk.
FOLDERS = ("/var/lib/kubelet", "/var/lib/cni", "/var/log/pods", "/var/log/containers")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def file_systems(folder: Path) -> None:
    """The host's files, with the node's own where nodes would get into each other's way or change the host's."""
    run = folder / "mounts"
    for parent in ("/var/lib", "/var/log"):  # Overlays, so that no mount point need be made on the host.
        upper, work = run / f"upper{parent}", run / f"work{parent}"
        for path in (upper, work):
            path.mkdir(parents=True, exist_ok=True)
        mount("-t", "overlay", "-o", f"lowerdir={parent},upperdir={upper},workdir={work}", "overlay", parent)
    for name in FOLDERS:
        own = run / f"own{name}"
        own.mkdir(parents=True, exist_ok=True)
        Path(name).mkdir(exist_ok=True)
        mount("--bind", str(own), name)
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    (Path("/run") / "lock").mkdir()
    # The network's part of sysfs is of the namespace that mounts it.
    Path("/run/cgroup").mkdir()
    mount("--rbind", "/sys/fs/cgroup", "/run/cgroup")
    mount("-t", "sysfs", "sysfs", "/sys")
    mount("--rbind", "/run/cgroup", "/sys/fs/cgroup")
    subprocess.run(["umount", "--recursive", "/run/cgroup"], check=True)
    mount("-t", "proc", "proc", "/proc")
    for name, value in KERNEL.items():
        setting = Path("/proc/sys") / name
        if setting.exists():
            shadow = Path("/run") / name.replace("/", ".")
            shadow.write_text(f"{value}\n")
            mount("--bind", str(shadow), str(setting))
    for name, value in NETWORK.items():
        setting = Path("/proc/sys") / name
        if setting.exists():
            setting.write_text(str(value))
    mount("--make-rshared", "/")  # Kubelet hands mounts on to containers.


class Programs:
    """The node's programs, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = ENVIRONMENT | {"HOME": str(folder), "TMPDIR": str(folder / "tmp")}
        (folder / "tmp").mkdir(exist_ok=True)
        self._commands: dict[str, list[str]] = {}
        self._running: dict[int, str] = {}
        self._again: set[int] = set()

    def start(self, name: str, command: list[str]) -> None:
        self._commands[name] = command
        log = (os.POSIX_SPAWN_OPEN, 1, str(self._folder / f"{name}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), log, (os.POSIX_SPAWN_DUP2, 1, 2)]
        pid = os.posix_spawn(
            command[0],
            command,
            self._environment,
            file_actions=actions,
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGPIPE],
        )
        self._running[pid] = name

    def restart(self, name: str) -> None:
        for pid, running in self._running.items():
            if running == name:
                self._again.add(pid)
                os.kill(pid, signal.SIGKILL)
                return
        self.start(name, self._commands[name])

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            name = self._running.pop(pid, None)
            if pid in self._again and name is not None:
                self._again.remove(pid)
                self.start(name, self._commands[name])
            elif name is not None:
                print(f"{name} ended with {os.waitstatus_to_exitcode(status)}", file=sys.stderr, flush=True)


def main() -> None:
    folder, name = Path(sys.argv[1]), sys.argv[2]
    print(os.readlink("/proc/self"), flush=True)  # Still the host's /proc.
    if not sys.stdin.readline():
        return
    socket.sethostname(name)
    file_systems(folder)
    programs = Programs(folder)
    told, tell = socket.socketpair()
    for end in (told, tell):
        end.setblocking(False)
    signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    print("ready", flush=True)
    selector = selectors.DefaultSelector()
    selector.register(told, selectors.EVENT_READ)
    selector.register(0, selectors.EVENT_READ)
    rest = b""
    while True:
        for key, _ in selector.select():
            if key.fileobj is told:
                told.recv(4096)
                programs.reap()
                continue
            data = os.read(0, 65536)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                what = json.loads(line)
                if "start" in what:
                    programs.start(what["start"], what["command"])
                else:
                    programs.restart(what["restart"])


if __name__ == "__main__":
    main()
