"""The folder that is filled: a folder a revision, links by name, nothing half-finished in sight.

revisions/REVISION/         the files, and .lepton.json with their sizes
staging/REVISION/           what is on its way; a later run goes on from there
NAME -> revisions/REVISION  links
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import msgspec

from lepton_operator.fetch.errors import FetchError, FullError

MANIFEST = ".lepton.json"
MORE_ROOM = "raise cache.size, or without a cache take nodes with a larger disk"


class Manifest(msgspec.Struct):
    """What a finished folder holds: bytes by path."""

    revision: str
    files: dict[str, int]


class Folder:
    """A place for the revisions of one model."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.revisions, self.staging = root / "revisions", root / "staging"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other fetches out, where the file system has locks."""
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
                    raise
            yield

    def complete(self, revision: str) -> bool:
        """Whether a revision is there, with all of its files at their sizes."""
        place = self.revisions / revision
        try:
            manifest = msgspec.json.decode((place / MANIFEST).read_bytes(), type=Manifest)
            return all((place / path).stat().st_size == size for path, size in manifest.files.items())
        except (OSError, msgspec.DecodeError):
            return False

    def check_room(self, needed: int, staged: Path) -> None:
        """Raises FullError when what is still to come does not fit."""
        have = sum(path.stat().st_size for path in staged.rglob("*") if path.is_file()) if staged.exists() else 0
        free = shutil.disk_usage(self.root).free
        if needed - have > free:
            raise FullError(f"the volume has {free:,} bytes free, {needed - have:,} are needed: {MORE_ROOM}")

    def publish(self, revision: str, staged: Path) -> None:
        """Makes a finished staging folder the revision's, at once or not at all."""
        files = {str(p.relative_to(staged)): p.stat().st_size for p in sorted(staged.rglob("*")) if p.is_file()}
        files.pop(MANIFEST, None)
        (staged / MANIFEST).write_bytes(msgspec.json.encode(Manifest(revision, files)))
        for path in staged.rglob("*"):
            _sync(path)
        self.revisions.mkdir(exist_ok=True)
        place = self.revisions / revision
        if place.exists():  # Incomplete, or it would have been used.
            shutil.rmtree(place)
        os.replace(staged, place)
        _sync(self.revisions)

    def link(self, name: str, revision: str) -> None:
        """Points a link at a revision, at once."""
        made = self.root / f".{name}.{os.getpid()}"
        made.unlink(missing_ok=True)
        made.symlink_to(Path("revisions") / revision)
        os.replace(made, self.root / name)
        _sync(self.root)

    def others(self, revision: str) -> list[str]:
        """Revisions beside this one."""
        return (
            sorted(path.name for path in self.revisions.iterdir() if path.name != revision)
            if self.revisions.is_dir()
            else []
        )

    def prune(self, name: str) -> list[str]:
        """Removes all but what a link points at; what was removed.

        Raises:
            FetchError: there is no such link, so nothing is known to be needed.
        """
        link = self.root / name
        if not link.is_symlink() or not link.exists():
            raise FetchError(f"{link} is no link to a revision: nothing is removed")
        kept = link.resolve().name
        for other in self.root.iterdir():
            if other.is_symlink() and other.name != name:
                other.unlink()
        removed = self.others(kept)
        for revision in removed:
            shutil.rmtree(self.revisions / revision)
        shutil.rmtree(self.staging, ignore_errors=True)
        return removed


def safe_path(root: Path, path: str) -> Path:
    """A path below a root. Raises FetchError for one that leads out of it."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise FetchError(f"the source names a file {path!r}, which leads out of the folder")
    return root.joinpath(*parts.parts)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # Some file systems sync no folders.
            raise
    finally:
        os.close(handle)
