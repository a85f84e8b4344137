"""What a source of weights is: a listing that is pinned to a revision, and files that are read from any offset."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

CHUNK = 8 * 1024 * 1024


@dataclass(frozen=True)
class Checksum:
    """A checksum: sha256, md5, or git (SHA-1 of a git blob), in hexadecimal."""

    kind: str
    value: str


@dataclass(frozen=True)
class RemoteFile:
    """A file of a snapshot.

    Attributes:
        path: relative, with slashes. size: bytes; None when the source does not say.
        checksum: None when the source gives none that can be computed here. handle: how the source names it.
    """

    path: str
    size: int | None
    checksum: Checksum | None
    handle: str


@dataclass(frozen=True)
class Snapshot:
    """A source at one revision.

    Attributes:
        revision: names the content; safe as the name of a folder.
        unpack: whether the only file is a tar archive, whose content is the model.
    """

    revision: str
    files: tuple[RemoteFile, ...]
    unpack: bool = False


class Source(Protocol):
    """Where weights come from. All methods raise FetchError."""

    def snapshot(self) -> Snapshot:
        """What is there now."""

    def read(self, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """The bytes of a file from an offset on. Also raises OSError for a connection that breaks."""


@dataclass(frozen=True)
class Credentials:
    """Credentials as the kubelet mounts them: a folder with a file a key.

    Attributes:
        folder: None for no credentials.
    """

    folder: Path | None = None

    def get(self, key: str) -> str | None:
        """The value of a key; None where there is none."""
        if self.folder is None or not (self.folder / key).is_file():
            return None
        return (self.folder / key).read_text().strip()

    def path(self, key: str) -> Path | None:
        """The file of a key."""
        return self.folder / key if self.folder is not None and (self.folder / key).is_file() else None


def revision_of(files: tuple[RemoteFile, ...], tags: list[str]) -> str:
    """A revision for a source that has none: the hash of its listing, with the entity tags of its files."""
    digest = hashlib.sha256()
    for file, tag in sorted(zip(files, tags, strict=True), key=lambda pair: pair[0].path):
        digest.update(f"{file.path}\0{file.size}\0{tag}\n".encode())
    return digest.hexdigest()[:40]


WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
_LEFT_OUT = (".gguf", ".onnx", ".msgpack", ".h5", ".ot", ".tflite", ".mlmodel")
_FOLDERS_LEFT_OUT = ("original", "onnx", "openvino", "coreml", ".git")


def wanted(paths: list[str]) -> list[str]:
    """The files that the engine can read: of several formats of the weights only safetensors."""
    kept = [
        path
        for path in paths
        if not path.endswith(_LEFT_OUT) and path.split("/")[0] not in _FOLDERS_LEFT_OUT and not path.endswith("/")
    ]
    if any(path.endswith(".safetensors") for path in kept):
        others = (".bin", ".pt", ".pth", ".bin.index.json")
        kept = [path for path in kept if not path.endswith(others)]
    return kept
