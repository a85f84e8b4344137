"""The examples in examples/clients, built and tested by their own tools in the user's cache folder.

Sources are copied there with the place that they have in the repository, so that nothing is generated or installed
inside it; what the tools make (gen/, node_modules/, target/) stays between runs.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lepton" / "clients"
MADE = {"gen", "dist", "node_modules", "target"}


@dataclass(frozen=True)
class Toolchain:
    """A language's tools.

    Attributes:
        programs: without these the example cannot be built.
        prepare: brings dependencies. test: builds and runs the tests.
    """

    language: str
    programs: tuple[str, ...]
    prepare: tuple[tuple[str, ...], ...]
    test: tuple[tuple[str, ...], ...]

    def missing(self) -> str:
        """The program that this machine lacks; empty for none."""
        return next((program for program in self.programs if shutil.which(program) is None), "")


TOOLCHAINS = {
    "go": Toolchain("go", ("go",), (), (("buf", "generate"), ("go", "test", "-count=1", "./..."))),
    "typescript": Toolchain("typescript", ("node", "npm"), (("npm", "ci"),), (("npm", "test"),)),
    "java": Toolchain("java", ("javac", "mvn"), (), (("mvn", "-B", "-ntp", "test"),)),
}


@contextmanager
def example(language: str) -> Iterator[Path]:
    """The example's copy in the cache, ours alone until left."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{language}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        base = CACHE / language
        _mirror(ROOT / "protos", base / "protos")
        folder = base / "examples" / "clients" / language
        _mirror(ROOT / "examples" / "clients" / language, folder)
        yield folder


def _mirror(source: Path, target: Path) -> None:
    """Makes `target` equal to `source` but for what tools make. Unchanged files keep their times: builds are warm."""
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    wanted = {path for path in wanted if not MADE & set(path.parts) and "__pycache__" not in path.parts}
    for path in wanted:
        new, old = source / path, target / path
        if not old.exists() or old.read_bytes() != new.read_bytes():
            old.parent.mkdir(parents=True, exist_ok=True)
            old.write_bytes(new.read_bytes())
    if target.is_dir():
        for old in [path for path in target.rglob("*") if path.is_file()]:
            relative = old.relative_to(target)
            if relative not in wanted and not MADE & set(relative.parts):
                old.unlink()


def prepare(toolchain: Toolchain, folder: Path) -> None:
    """Brings the dependencies where the list of them has changed since."""
    lock = folder / "package-lock.json"
    stamp = folder / "node_modules" / ".prepared"
    if toolchain.prepare and not (stamp.is_file() and stamp.read_bytes() == lock.read_bytes()):
        run(toolchain.prepare, folder, {})
        stamp.write_bytes(lock.read_bytes())


def run(commands: Sequence[Sequence[str]], folder: Path, variables: Mapping[str, str]) -> str:
    """Runs commands one after the other, and gives back what they said.

    Raises:
        AssertionError: one failed; the message has the end of its output.
    """
    binaries = str(Path(sys.executable).parent)  # buf, from its wheel
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    said = ""
    for command in commands:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PATH": path, "GOWORK": "off", **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        said += done.stdout
        assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-8000:]}"
    return said
