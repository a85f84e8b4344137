"""What nodes have on the host outside their own namespaces: a bridge, links and routes, a cgroup tree, a folder.

All of it has names that are ours, and `sweep` removes whatever of it is there, so a run that died leaves nothing that
the next one minds.

Run as a program it waits until its standard input closes, which the kernel does for a run that was killed, and sweeps.
It needs the standard library alone.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

OWNER = "lepton-nodes"  # The name of the cgroup, the folder and the lock.
FOLDER = Path("/var/tmp") / OWNER  # On a disk, and not where systems clear or mount a tmpfs: overlays are made in it.
BRIDGE = "lepton0"
GATEWAY = "10.203.0.1"
LENGTH = 24
POD_RANGE = "10.244.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"


class HostError(Exception):
    """The host does not let us; the text says what failed."""


def run(*words: str, given: str = "") -> str:
    """A command's standard output. Raises: HostError."""
    done = subprocess.run(words, input=given, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise HostError(f"{' '.join(words)} failed with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


class Host:
    """The one cluster of nodes that a machine can have: from here until `close` it is this process's.

    Args:
        seconds: how long to wait for another run, or for the cleaning up after it.

    Raises:
        HostError: another run has it for longer than that, or the bridge cannot be made.
    """

    def __init__(self, seconds: float = 120) -> None:
        lock = _lock(seconds)
        try:
            sweep()
            # The janitor holds the lock as well: nobody else starts before it is through.
            self._janitor = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE,
                pass_fds=[lock.fileno()],
                start_new_session=True,
            )
        finally:
            lock.close()
        try:
            FOLDER.mkdir(mode=0o711)
            # A fixed address: a bridge takes the lowest of its ports otherwise, and changes when a node dies.
            run("ip", "link", "add", BRIDGE, "address", "02:00:00:cb:00:01", "type", "bridge")
            run("ip", "address", "add", f"{GATEWAY}/{LENGTH}", "dev", BRIDGE)
            run("ip", "link", "set", BRIDGE, "up")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove everything, and let others have the machine."""
        assert self._janitor.stdin is not None
        self._janitor.stdin.close()
        self._janitor.wait()


def _lock(seconds: float) -> socket.socket:
    """An abstract socket's name: it has one holder, and goes with its last descriptor, leaving no file."""
    lock = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + seconds
    while True:
        try:
            lock.bind(f"\0{OWNER}")
        except OSError:
            if time.monotonic() > deadline:
                lock.close()
                raise HostError(f"another run has had this machine's nodes for {seconds:g} s") from None
            time.sleep(0.2)
            continue
        return lock


def hierarchies() -> list[Path]:
    """Where cgroups are mounted: one place with version 2, one a controller with version 1."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(words[1]) for words in lines if words[2] in ("cgroup", "cgroup2")]


def make_cgroup(*parts: str) -> list[Path]:
    """A cgroup below ours in every hierarchy, with all the controllers of its parent."""
    made = []
    for root in hierarchies():
        path = root
        for part in (OWNER, *parts):
            _delegate(path)
            path = path / part
            path.mkdir(exist_ok=True)
            for file in ("cpuset.cpus", "cpuset.mems"):  # Version 1 starts with none, and then takes no process.
                if (path / "tasks").exists() and (path / file).exists() and not (path / file).read_text().strip():
                    (path / file).write_text((path.parent / file).read_text())
        made.append(path)
    return made


def _delegate(path: Path) -> None:
    """Version 2: children get the controllers that this one has."""
    control = path / "cgroup.subtree_control"
    if control.exists():
        for name in (path / "cgroup.controllers").read_text().split():
            control.write_text(f"+{name}")


def processes(*parts: str) -> set[int]:
    """Every process in our cgroups, by its id as the host sees it."""
    found: set[int] = set()
    for root in hierarchies():
        for file in root.joinpath(OWNER, *parts).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):  # The cgroup has gone meanwhile.
                found.update(int(line) for line in file.read_text().split())
    return found - {0}


def end(*parts: str, seconds: float = 30) -> None:
    """Kill every process in our cgroups, and remove the cgroups. Raises: HostError, when some stay."""
    deadline = time.monotonic() + seconds
    while True:
        left = processes(*parts)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not left and _remove_cgroups(*parts):
            return
        if time.monotonic() > deadline:
            raise HostError(f"cgroup {'/'.join((OWNER, *parts))} does not go; processes in it: {sorted(left)}")
        time.sleep(0.02)


def _remove_cgroups(*parts: str) -> bool:
    for root in hierarchies():
        top = root.joinpath(OWNER, *parts)
        folders = [Path(folder) for folder, _, _ in os.walk(top, topdown=False)]
        try:
            for folder in folders:
                folder.rmdir()
        except FileNotFoundError:
            return False
        except OSError:  # A process is still ending.
            return False
    return True


def links() -> list[str]:
    """Our links that are there."""
    prefix = BRIDGE.rstrip("0")
    return [link for _, link in socket.if_nameindex() if link.startswith(prefix) and link[len(prefix) :].isdigit()]


def sweep() -> None:
    """Remove whatever a cluster of nodes left here. Raises: HostError."""
    end()
    for link in links():  # Routes go with the bridge.
        subprocess.run(["ip", "link", "delete", link], capture_output=True, check=False)  # Gone with its node, perhaps.
    if left := links():
        raise HostError(f"links {', '.join(left)} do not go")
    if FOLDER.exists():
        shutil.rmtree(FOLDER)


def main() -> None:
    """Wait for the run's end, then sweep."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # These are the run's to handle.
    sys.stdin.buffer.read()
    sweep()


if __name__ == "__main__":
    main()
