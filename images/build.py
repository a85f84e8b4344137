"""Builds images with buildah and keeps their archives, by a key of all that went into them."""

import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from images import base, inputs, lent, tools
from images.variants import CACHE, ROOT, Variant, archive

MOST_LAYERS = 80
"""Images and layers that a variant's store may hold before it is emptied: an edit of the code adds a few."""
BASE_NAME = "localhost/lepton-base"
OWN_MOUNTS = ("unshare", "--mount", "--propagation=private")


def build(variant: Variant) -> Path:
    """The archive of an image, built first where the cache has none of this content. Older ones are removed.

    Returns:
        A docker-archive, as `ctr images import` and `docker load` take it. `archive(name)` links to it.

    Raises:
        ImageError: not root, or a step failed.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    key = inputs.key(ROOT, variant, base.key())
    target = CACHE / f"{variant.name}-{key}.tar"
    if not target.exists():
        tools.ensure()
        with _lock():
            if not target.exists():
                started = time.monotonic()
                print(f"building {variant.tag()} ({key})", file=sys.stderr, flush=True)
                _build(variant, target)
                print(f"built {variant.tag()} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    _link(variant, target)
    return target


def _build(variant: Variant, target: Path) -> None:
    for left in CACHE.glob(".part-*"):  # Of a build that was killed: the lock says that nobody is at it.
        shutil.rmtree(left, ignore_errors=True)
    store = _Store(CACHE / f"layers-{variant.name}")
    with tempfile.TemporaryDirectory(prefix=".part-", dir=CACHE) as temporary:
        folder = Path(temporary)
        context = folder / "context"
        context.mkdir()
        inputs.stage(ROOT, variant, context)
        store.prepare(base.base(CACHE))
        name = f"docker.io/{variant.tag()}"
        arguments = {"BASE": BASE_NAME, "VERSION": variant.tag().rpartition(":")[2].removesuffix(variant.suffix)}
        arguments |= variant.arguments
        store.run(
            "build",
            "--isolation=chroot",
            "--format=docker",
            "--layers",
            "--pull-never",
            f"--timestamp={base.EPOCH}",
            *lent.secrets(folder),
            *(f"--build-arg={key}={value}" for key, value in arguments.items()),
            f"--file={context / variant.containerfile()}",
            f"--tag={name}",
            context,
        )
        part = folder / "image.tar"
        store.run("push", "--quiet", name, f"docker-archive:{part}:{name}")
        part.rename(target)
    if not variant.keeps_layers:
        store.remove()


class _Store:
    """Where buildah keeps layers: a folder of our own, so that nobody's images are touched."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, command: str, *arguments: str | Path) -> str:
        """Runs a command of buildah's on this store. Raises ImageError."""
        roots = [f"--root={self._folder / 'root'}", f"--runroot={self._folder / 'run'}", "--storage-driver=overlay"]
        # In a mount namespace of its own: what a killed buildah has mounted goes with it.
        return tools.run([*OWN_MOUNTS, "buildah", *roots, command, *arguments])

    def prepare(self, rootfs: Path) -> None:
        """Brings the base in; empties the store first when it holds another base, or too much."""
        mark = self._folder / "base"
        known = mark.read_text() if mark.exists() else ""
        if known == rootfs.name and len(self.run("images", "--all", "--quiet").split()) <= MOST_LAYERS:
            return
        self.remove()
        self._folder.mkdir()
        container = self.run("from", "scratch").strip()
        self.run("add", "--quiet", container, rootfs, "/")
        self.run("commit", "--quiet", "--rm", f"--timestamp={base.EPOCH}", "--format=docker", container, BASE_NAME)
        mark.write_text(rootfs.name)

    def remove(self) -> None:
        """Deletes the store with all that is in it."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _link(variant: Variant, target: Path) -> None:
    """Points the variant's link at its newest archive, and removes the others."""
    link = archive(variant.name)
    temporary = link.with_suffix(f".{os.getpid()}")
    temporary.symlink_to(target.name)
    temporary.replace(link)
    for old in CACHE.glob(f"{variant.name}-????????????.tar"):
        if old != target:
            old.unlink(missing_ok=True)


@contextmanager
def _lock() -> Iterator[None]:
    """One build at a time on this machine; the kernel lets go of it whatever ends its holder."""
    with open(CACHE / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
