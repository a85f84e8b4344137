"""What of a machine a cluster of nodes could leave changed."""

import contextlib
import socket
import subprocess
from pathlib import Path

import psutil

from tests.cluster.nodes import host

# Where programs of nodes would make folders, were they let.
PLACES = ("/var/lib/kubelet", "/var/lib/cni", "/var/log/pods", "/var/log/containers", "/run/containerd", "/run/netns")
PLACES_OF_OTHERS = ("/opt/containerd", "/opt/cni", "/etc/cni", "/etc/kubernetes", "/run/cni", "/run/xtables.lock")
# Settings of the whole machine that a kubelet or kube-proxy sets.
SETTINGS = (
    *("kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"),
    *("vm/overcommit_memory", "vm/panic_on_oom", "net/ipv4/ip_forward", "net/netfilter/nf_conntrack_max"),
    *("net/ipv4/conf/all/route_localnet", "net/bridge/bridge-nf-call-iptables"),
)
State = dict[str, list[str]]


def state() -> State:
    """All of it, by kind."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    settings = [(name, Path("/proc/sys") / name) for name in SETTINGS]
    return {
        "mounts": sorted(mounts),
        "links": sorted(name for _, name in socket.if_nameindex()),
        "routes": host.run("ip", "route").splitlines(),
        "rules": [line.rstrip() for line in _rules() if not line.startswith(("#", ":"))],
        "cgroups": sorted({str(path) for root in host.hierarchies() for path in root.glob(f"**/{host.OWNER}*")}),
        "processes": _programs(),
        "folders": [path for path in (*PLACES, *PLACES_OF_OTHERS, str(host.FOLDER)) if Path(path).exists()],
        "settings": [f"{name}={path.read_text().strip()}" for name, path in settings if path.exists()],
    }


def _rules() -> list[str]:
    found: list[str] = []
    for program in ("iptables-save", "ip6tables-save"):
        found += host.run(program).splitlines()
    return found


def _programs() -> list[str]:
    """Processes in our cgroups, and those whose command line has our folder or the janitor in it."""
    found = {f"{pid}" for pid in host.processes()}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if any(word.startswith(str(host.FOLDER)) or word == host.__file__ for word in process.cmdline()):
                found.add(f"{process.pid}")
    return sorted(found)


def services() -> str:
    """Units of systemd that run a container engine; empty where there are none, or no systemd."""
    done = subprocess.run(
        ["systemctl", "is-active", "containerd"], capture_output=True, text=True, errors="replace", check=False
    )
    return done.stdout.strip() if done.stdout.strip() == "active" else ""
