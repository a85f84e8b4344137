"""Files that stay in force until a better version of them is there."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from lepton_service.auth.errors import AuthConfigError

T = TypeVar("T")
Stamp = tuple[int, int, int, int]

MAX_BYTES = 16 * 1024 * 1024

_log = logging.getLogger("lepton.auth")


def stamp(path: Path) -> Stamp | None:
    """What tells a changed file, one put in its place, and one behind a link that was turned; None without one.

    A Secret that Kubernetes mounts is a link into a folder, behind a link that is turned at an update.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


class WatchedFile(Generic[T]):
    """What a file says, read again when it has changed. A version that cannot be used is logged once and passed over.

    Args:
        what: the file's name in messages. parse: raises AuthConfigError for contents that cannot be used.

    Raises:
        AuthConfigError: the first version cannot be used.
    """

    def __init__(self, path: Path, what: str, parse: Callable[[bytes], T]) -> None:
        self._path = path
        self._what = what
        self._parse = parse
        self._lock = threading.Lock()
        self._stamp = stamp(path)
        self._value = self._read()

    def current(self) -> T:
        """The last version that can be used. Costs one `stat` while the file stays."""
        found = stamp(self._path)
        if found != self._stamp:
            with self._lock:
                if found != self._stamp:
                    self._stamp = found  # from before it is read: what is written meanwhile differs from it
                    self._renew()
        return self._value

    def _renew(self) -> None:
        try:
            self._value = self._read()
        except AuthConfigError as error:
            _log.error("%s; what was read before stays in force", error)
            return
        _log.info("%s %s is read again", self._what, self._path)

    def _read(self) -> T:
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise AuthConfigError(f"{self._what} {self._path} cannot be read: {error.strerror}") from error
        if len(data) > MAX_BYTES:
            raise AuthConfigError(f"{self._what} {self._path} has more than {MAX_BYTES} bytes")
        if not data:
            raise AuthConfigError(f"{self._what} {self._path} is empty")
        try:
            return self._parse(data)
        except AuthConfigError as error:
            raise AuthConfigError(f"{self._what} {self._path}: {error}") from error
