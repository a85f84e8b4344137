"""A folder that appears whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lepton_engine.errors import InvalidRequestError, LeptonError

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack", ".index.json")


class WriteError(LeptonError):
    """A checkpoint that could not be written: a full disk, a folder that may not be written to; nothing is left."""


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder beside the target to write into; it becomes the target at the end, or is removed on any failure.

    A process that is killed leaves it, under a name that begins with a dot; the target is never half-written.

    Raises:
        InvalidRequestError: the target is there already. WriteError: writing failed.
    """
    if target.exists():
        raise InvalidRequestError("target", f"{str(target)!r} is there already; name a folder that is not")
    making = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        making.mkdir(parents=True)
        try:
            yield making
            _sync(making)
            making.rename(target)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    except OSError as error:
        raise WriteError(f"{target}: cannot be written: {error.strerror or error}; nothing is left of it") from error


def copy_other_files(source: Path, target: Path) -> None:
    """All files but the weights and config.json: tokenizer, chat template, generation_config.json, licence."""
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name != "config.json" and not path.name.endswith(WEIGHTS):
            shutil.copyfile(path, target / path.name)


def _sync(folder: Path) -> None:
    """What is in the folder, and the names there, survive a power cut once it has its own name."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
