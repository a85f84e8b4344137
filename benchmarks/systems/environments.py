"""Peers' own virtual environments and checkpoints in their formats, in the user's cache folder.

Each is made once, under a lock, in a folder of another name that is renamed when it is complete. The folder's name
holds a hash of what it was made from, so that a change of requirements makes a new one.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.shapes import CACHE
from benchmarks.systems.process import child_environment

PEERS = CACHE.parent / "peers"


class PeerUnavailable(Exception):
    """A peer could not be installed, built or given its weights; the message says why."""


@dataclass(frozen=True)
class Peer:
    """A system of others that installs from PyPI.

    Attributes:
        name: in tables. module: under `benchmarks.systems`, with functions `convert(source, target, weights)` and
            `make(folder, threads, ...)`, both called in the peer's interpreter.
        requirements: ranges for its environment.
        weights: what it calls weights of "bf16", "int8", "int4"; what is missing it does not run.
        build: environment variables of the installation, where it compiles something.
    """

    name: str
    module: str
    requirements: tuple[str, ...]
    weights: Mapping[str, str]
    build: Mapping[str, str] = field(default_factory=dict)

    def folder(self) -> Path:
        """Of its environment, made or not."""
        made_from = [*self.requirements, platform.python_version(), *sorted(self.build.items())]
        if self.build:
            made_from.append(_processor())
        digest = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:8]
        return PEERS / f"{self.module}-{digest}"

    def python(self, say: Callable[[str], None] = print) -> Path:
        """Its interpreter; the environment is made when it is missing.

        Raises:
            PeerUnavailable: the installation failed; its last lines.
        """
        folder = self.folder()
        with once(folder) as making:
            if making is not None:
                compiling = " (it compiles: ten minutes or more on two cores)" if self.build else ""
                say(f"installing {self.name} once into {folder}{compiling}")
                uv = [str(Path(sys.executable).parent / "uv")]
                _call([*uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, str(making)], {})
                target = ["--python", str(making / "bin" / "python")]
                _call([*uv, "pip", "install", "--quiet", *target, *self.requirements], self.build)
        return folder / "bin" / "python"

    def checkpoint(self, source: Path, weights: str, say: Callable[[str], None] = print) -> Path:
        """The folder of a checkpoint in its format; converted when it is missing.

        Args:
            source: a folder of `benchmarks.shapes.checkpoint`. weights: "bf16", "int8" or "int4".

        Raises:
            PeerUnavailable: the conversion failed; its last lines.
        """
        python = self.python(say)
        # Environments of other versions convert anew: formats change with them.
        with once(PEERS / "checkpoints" / f"{self.folder().name}-{source.name}-{self.weights[weights]}") as making:
            if making is not None:
                say(f"converting {source.name} to {self.weights[weights]} for {self.name} once")
                making.mkdir()
                program = (
                    f"from benchmarks.systems import {self.module} as peer; import sys; peer.convert(*sys.argv[1:])"
                )
                _call([str(python), "-c", program, str(source), str(making), self.weights[weights]], {})
        return PEERS / "checkpoints" / f"{self.folder().name}-{source.name}-{self.weights[weights]}"


@contextmanager
def once(folder: Path) -> Iterator[Path | None]:
    """None where the folder exists; otherwise where to make it: it takes its name when the body succeeds."""
    if folder.exists():
        yield None
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():  # Another process made it meanwhile.
            yield None
            return
        making = folder.with_name(f".{folder.name}.making")
        shutil.rmtree(making, ignore_errors=True)  # Of a process that was killed; the lock says that it is gone.
        try:
            yield making
            making.rename(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)


def _call(command: list[str], environment: Mapping[str, str]) -> None:
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", **environment}
    done = subprocess.run(
        ["nice", "-n", "19", *command],
        env=child_environment(len(os.sched_getaffinity(0)), quiet),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PeerUnavailable((done.stdout + done.stderr).strip()[-1500:])


def _processor() -> str:
    """What code that is compiled for this processor depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
