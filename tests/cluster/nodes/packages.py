"""The Debian packages that nodes need beside the base system: named first, then installed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# A program of each package, by which a machine has it; those of other distributions serve as well.
PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "iptables",
    "iproute2": "ip",
    "util-linux": "nsenter",
    "mount": "mount",
}
POLICY = Path("/usr/sbin/policy-rc.d")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NodesError(Exception):
    """Nodes cannot be had on this machine, or did not start; the text says why."""


def require_root() -> None:
    """Raises: NodesError, when this isn't root."""
    if os.geteuid() != 0:
        raise NodesError("real nodes need root: namespaces, mounts, cgroups and a bridge; run `sudo make e2e`")


def missing() -> list[str]:
    """The packages of which this machine has no program."""
    return [package for package, program in PACKAGES.items() if shutil.which(program, path=PATH) is None]


def install() -> None:
    """Install what is missing by apt-get, after having said what. Raises: NodesError."""
    require_root()
    wanted = missing()
    if not wanted:
        return
    if shutil.which("apt-get", path=PATH) is None:
        raise NodesError(f"this machine lacks {', '.join(wanted)}, and has no apt-get to install them with")
    print(f"installing Debian packages for the nodes: {' '.join(wanted)}", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    with _no_service_started():
        for command in (["update"], ["install", *options, *wanted]):
            done = subprocess.run(
                ["apt-get", *command], env=environment, capture_output=True, text=True, errors="replace", check=False
            )
            # An update fails on any one source; whether that matters, the install says.
            if done.returncode and command[0] == "install":
                raise NodesError(f"apt-get {' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:].strip()}")
    if still := missing():
        raise NodesError(f"apt-get installed {', '.join(wanted)}, but there is still no program of {', '.join(still)}")


@contextmanager
def _no_service_started() -> Iterator[None]:
    """Packages start no service meanwhile: the machine's own containerd is not ours to run."""
    if POLICY.exists():  # Somebody decides on this already.
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
