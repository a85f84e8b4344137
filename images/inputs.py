"""What goes into a build: the files of its context, and the key that they make."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from images.variants import Variant

SHARED = ("constraints.txt", "images/build-constraints.txt", "images/inside")
PACKAGES = {"protos": "lepton", "engine": "lepton_engine", "service": "lepton_service", "operator": "lepton_operator"}
COMMANDS = Path(__file__).with_name("build.py")
LEFT_OUT = frozenset({".so", ".pyc", ".pyo"})


def context_files(root: Path, variant: Variant) -> list[str]:
    """Paths below the root of all that the Containerfile copies, sorted."""
    wanted = [variant.containerfile(), *SHARED]
    for distribution in variant.distributions:
        wanted += [f"{distribution}/pyproject.toml", f"{distribution}/{PACKAGES[distribution]}"]
        if distribution == "engine":
            wanted.append("engine/CMakeLists.txt")
    found = [path for name in wanted for path in _files(root / name)]
    return sorted(str(path.relative_to(root)) for path in found)


def key(root: Path, variant: Variant, base: str) -> str:
    """A short key of all that goes into an image: files, arguments, how they are built, and the key of the base."""
    digest = hashlib.sha256(repr((base, variant.tag(), sorted(variant.arguments.items()))).encode())
    digest.update(COMMANDS.read_bytes())
    for name in context_files(root, variant):
        content = (root / name).read_bytes()
        digest.update(f"\0{name}\0{_mode(root / name):o}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def stage(root: Path, variant: Variant, into: Path) -> None:
    """Copies the context into an empty folder, with modes that don't depend on anybody's umask."""
    for name in context_files(root, variant):
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, target)
        target.chmod(_mode(root / name))


def _mode(path: Path) -> int:
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.name != "__pycache__":
        for entry in path.iterdir():
            if entry.suffix not in LEFT_OUT:
                yield from _files(entry)
