"""Buckets of objects: S3 and Google Cloud Storage, by fsspec."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

from lepton_operator.fetch.errors import NotFoundError, UnauthorizedError, UnavailableError
from lepton_operator.fetch.source import CHUNK, Checksum, Credentials, RemoteFile, Snapshot, revision_of, wanted

Details = dict[str, Any]


class BucketSource:
    """The objects under a prefix.

    Args:
        system: makes the fsspec file system; not called before it is needed.
        tag: the entity tag of an object's details. checksum: what can be checked of it here.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        system: Callable[[], Any],
        tag: Callable[[Details], str],
        checksum: Callable[[Details], Checksum | None],
    ) -> None:
        self._root = f"{bucket}/{prefix.strip('/')}".rstrip("/")
        self._make, self._tag, self._checksum = system, tag, checksum
        self._system: Any = None

    def snapshot(self) -> Snapshot:
        """See Source."""
        with _Explained(self._root):
            self._system = self._system or self._make()
            self._system.invalidate_cache()
            found: dict[str, Details] = self._system.find(self._root, detail=True)
        named = {key[len(self._root) + 1 :]: info for key, info in found.items() if key.startswith(self._root + "/")}
        paths = wanted(sorted(named))
        if not paths:
            raise NotFoundError(f"{self._root} has no files of a model")
        files = tuple(
            RemoteFile(path, named[path]["size"], self._checksum(named[path]), f"{self._root}/{path}") for path in paths
        )
        return Snapshot(revision_of(files, [self._tag(named[path]) for path in paths]), files)

    def read(self, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """See Source."""
        assert file.size is not None
        while offset < file.size:
            with _Explained(file.handle):
                chunk: bytes = self._system.cat_file(file.handle, start=offset, end=min(offset + CHUNK, file.size))
            if not chunk:
                raise OSError(f"{file.path} is shorter than it was")
            yield chunk
            offset += len(chunk)


class _Explained:
    """Turns the errors of the libraries into ours; connections that break stay OSError."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        text = f"{self._name}: {error}"
        status = _status(error)
        if isinstance(error, PermissionError) or status in (401, 403) or type(error).__name__ == "NoCredentialsError":
            raise UnauthorizedError(text) from error
        if isinstance(error, FileNotFoundError) or status == 404:
            raise NotFoundError(text) from error
        transport = type(error).__module__.partition(".")[0] in (
            "aiohttp",
            "botocore",
            "aiobotocore",
            "gcsfs",
            "google",
        )
        if transport or isinstance(error, OSError | TimeoutError):
            raise UnavailableError(text) from error


def _status(error: BaseException) -> int:
    for name in ("status", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()):
            return int(value)
    return 0


def s3(bucket: str, prefix: str, endpoint: str | None, region: str | None, credentials: Credentials) -> BucketSource:
    """A prefix of an S3 bucket. Without keys the pod's own identity is used, and without one nobody's."""

    def make() -> Any:
        import s3fs

        key, secret = credentials.get("accessKeyID"), credentials.get("secretAccessKey")
        return s3fs.S3FileSystem(
            key=key,
            secret=secret,
            token=credentials.get("sessionToken"),
            endpoint_url=endpoint,
            client_kwargs={"region_name": region} if region else {},
            config_kwargs={"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}},
            skip_instance_cache=True,
        )

    def tag(info: Details) -> str:
        return str(info.get("ETag", "")).strip('"')

    def checksum(info: Details) -> Checksum | None:
        # Of a multipart or encrypted object the tag is no MD5.
        value = tag(info)
        return Checksum("md5", value) if len(value) == 32 and "-" not in value else None

    return BucketSource(bucket, prefix, make, tag, checksum)


def gcs(bucket: str, prefix: str, endpoint: str | None, credentials: Credentials) -> BucketSource:
    """A prefix of a Google Cloud Storage bucket. Without a key file the pod's own identity is used, if it has one."""

    def make() -> Any:
        # Not the package's default class, which asks the control API about every bucket, by gRPC.
        from gcsfs.core import GCSFileSystem

        key = credentials.path("credentials.json")
        token = str(key) if key is not None else ("anon" if endpoint else None)
        return GCSFileSystem(token=token, endpoint_url=endpoint, skip_instance_cache=True)

    def checksum(info: Details) -> Checksum | None:
        value = info.get("md5Hash")
        return Checksum("md5", base64.b64decode(value).hex()) if value else None

    return BucketSource(
        bucket, prefix, make, lambda info: str(info.get("etag") or info.get("generation", "")), checksum
    )
