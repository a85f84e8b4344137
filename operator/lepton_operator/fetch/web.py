"""A file or a tar archive behind HTTP."""

import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from lepton_operator.fetch.errors import FetchError, NotFoundError, UnauthorizedError, UnavailableError
from lepton_operator.fetch.source import CHUNK, Checksum, Credentials, RemoteFile, Snapshot

TIMEOUT = 30.0
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


class WebSource:
    """One address.

    Args:
        sha256: of what is there; None when it is not known.
    """

    def __init__(self, url: str, sha256: str | None, credentials: Credentials) -> None:
        self._url, self._sha256 = url, sha256
        self._token = credentials.get("token")

    def snapshot(self) -> Snapshot:
        """See Source."""
        with self._open("HEAD", 0) as answer:
            headers = answer.headers
        length = headers.get("Content-Length")
        tag = headers.get("ETag") or headers.get("Last-Modified") or ""
        name = unquote(urlsplit(self._url).path.rpartition("/")[2]) or "model"
        checksum = Checksum("sha256", self._sha256) if self._sha256 else None
        revision = self._sha256 or hashlib.sha256(f"{self._url}\0{length}\0{tag}".encode()).hexdigest()[:40]
        file = RemoteFile(name, int(length) if length else None, checksum, self._url)
        return Snapshot(revision, (file,), unpack=name.endswith(ARCHIVES))

    def read(self, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """See Source."""
        with self._open("GET", offset) as answer:
            if offset and answer.status != 206:
                raise OSError("the server knows no ranges")
            while chunk := answer.read(CHUNK):
                yield chunk

    def _open(self, method: str, offset: int) -> Any:
        headers = {"Accept-Encoding": "identity", "User-Agent": "lepton-fetch"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        request = urllib.request.Request(self._url, headers=headers, method=method)
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            return urllib.request.urlopen(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            raise _explain(self._url, error.code) from error
        except urllib.error.URLError as error:
            raise UnavailableError(f"{self._url}: {error.reason}") from error


def _explain(url: str, status: int) -> FetchError:
    if status in (401, 403):
        return UnauthorizedError(f"{url}: the server answered {status}: check the token in model.secretRef")
    if status in (404, 410):
        return NotFoundError(f"{url}: the server answered {status}")
    if status >= 500 or status in (408, 429):
        return UnavailableError(f"{url}: the server answered {status}")
    return FetchError(f"{url}: the server answered {status}")
