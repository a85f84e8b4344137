"""From a source into a folder: resumed where it broke off, checked, then shown at once."""

import errno
import hashlib
import logging
import shutil
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lepton_operator.fetch.errors import ChangedError, ChecksumError, FetchError, FullError, UnavailableError
from lepton_operator.fetch.folder import MORE_ROOM, Folder, safe_path
from lepton_operator.fetch.source import CHUNK, Checksum, RemoteFile, Snapshot, Source

TRIES = 6
_ROOM = (errno.ENOSPC, errno.EDQUOT)
_log = logging.getLogger("lepton.fetch")


@dataclass(frozen=True)
class Fetched:
    """What was fetched.

    Attributes:
        revision: of the source. others: how many other revisions the folder has.
    """

    revision: str
    others: int


def resolve(source: Source, revision: str | None) -> Snapshot:
    """The source's listing.

    Args:
        revision: what it must be; None for whatever it is.

    Raises:
        FetchError: ChangedError when it is another revision.
    """
    snapshot = source.snapshot()
    if revision is not None and snapshot.revision != revision:
        raise ChangedError(f"the source is at {snapshot.revision} by now, {revision} was asked for")
    return snapshot


def fetch(
    source: Source,
    into: Path,
    link: str | None = None,
    revision: str | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Fetches a source, unless it is there already.

    Args:
        link: name of a link in `into` to what was fetched.
        revision: what the source must be.
        wait: sleeps between tries.

    Raises:
        FetchError.
    """
    snapshot = resolve(source, revision)
    folder = Folder(into)
    try:
        with folder.locked():
            if folder.complete(snapshot.revision):
                _log.info("%s is there already", snapshot.revision)
            else:
                _fill(source, snapshot, folder, wait)
            if link is not None:
                folder.link(link, snapshot.revision)
            return Fetched(snapshot.revision, len(folder.others(snapshot.revision)))
    except OSError as error:
        if error.errno in _ROOM:
            raise FullError(f"the volume is full: {error}: {MORE_ROOM}") from error
        raise FetchError(f"{into}: {error}") from error


def _fill(source: Source, snapshot: Snapshot, folder: Folder, wait: Callable[[float], None]) -> None:
    staged = folder.staging / snapshot.revision
    parts = folder.staging / f"{snapshot.revision}.parts"
    target = parts if snapshot.unpack else staged
    target.mkdir(parents=True, exist_ok=True)
    folder.check_room(sum(file.size or 0 for file in snapshot.files), target)
    for number, file in enumerate(snapshot.files, 1):
        _log.info("%d of %d: %s", number, len(snapshot.files), file.path)
        _download(source, file, safe_path(target, file.path), wait)
    if snapshot.unpack:
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        _unpack(safe_path(target, snapshot.files[0].path), staged)
        shutil.rmtree(parts)
    folder.publish(snapshot.revision, staged)


def _download(source: Source, file: RemoteFile, path: Path, wait: Callable[[float], None]) -> None:
    """One file; goes on with what is there of it. A file of the wrong content is fetched anew, once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    if path.exists():
        return  # It was checked before it got its name.
    for attempt in (1, 2):
        _receive(source, file, partial, wait)
        if file.checksum is None or _matches(partial, file.checksum):
            partial.rename(path)
            return
        partial.unlink()
        _log.warning("%s: the checksum is wrong (try %d)", file.path, attempt)
    assert file.checksum is not None
    raise ChecksumError(f"{file.path}: the content's {file.checksum.kind} is not {file.checksum.value}")


def _receive(source: Source, file: RemoteFile, partial: Path, wait: Callable[[float], None]) -> None:
    failures = 0
    while True:
        have = partial.stat().st_size if partial.exists() else 0
        if file.size is not None and have > file.size:
            partial.unlink()
            have = 0
        if file.size is not None and have == file.size and (have or partial.exists()):
            return
        try:
            with open(partial, "ab") as out:
                for chunk in source.read(file, have):
                    out.write(chunk)
                    failures = 0
            if file.size is None or partial.stat().st_size == file.size:
                return
            raise OSError(f"the connection ended at {partial.stat().st_size} of {file.size} bytes")
        except (OSError, UnavailableError) as error:
            if isinstance(error, OSError) and error.errno in _ROOM:
                raise
            failures += 1
            if failures == TRIES:
                raise UnavailableError(f"{file.path}: {error}") from error
            if "knows no ranges" in str(error):
                partial.unlink(missing_ok=True)
            _log.warning("%s: %s; going on", file.path, error)
            wait(min(0.5 * 2**failures, 15.0))


def _matches(path: Path, checksum: Checksum) -> bool:
    digest: Any
    match checksum.kind:
        case "sha256":
            digest = hashlib.sha256()
        case "md5":
            digest = hashlib.md5(usedforsecurity=False)
        case "git":
            digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        case kind:
            raise FetchError(f"a checksum of unknown kind {kind!r}")
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    found: str = digest.hexdigest()
    return found == checksum.value


def _unpack(archive: Path, into: Path) -> None:
    """Unpacks without letting anything out of the folder; a single top folder is dropped."""
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(into, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise FetchError(f"{archive.name}: {error}") from error
    inside = list(into.iterdir())
    if len(inside) == 1 and inside[0].is_dir():
        top = inside[0].rename(into.with_name(into.name + ".top"))
        into.rmdir()
        top.rename(into)
