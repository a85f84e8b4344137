"""Reads safetensors files by plain reads.

The library's own reader maps files into memory; a mapping counts against the process for as long as it lasts, which
doubles the memory of a model that is being loaded, and is slow on network volumes, where each page is a request.
Format: https://huggingface.co/docs/safetensors (eight bytes of length, a JSON header, the tensors' bytes).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from lepton_engine.errors import ModelLoadError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Entry:
    """A tensor in the file: its dtype by the format's name, its shape, and the byte at which it starts."""

    dtype: str
    shape: tuple[int, ...]
    start: int


class SafetensorsFile:
    """The tensors of one file, by name.

    Raises:
        ModelLoadError: the file is truncated or damaged; the message names it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # The library checks the header: lengths, dtypes, and that the tensors cover the file without overlap.
            with safe_open(path, framework="pt"):
                pass
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelLoadError(f"{path}: is truncated or damaged: {error}") from error
        header.pop("__metadata__", None)
        self._entries = {
            name: Entry(entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
            for name, entry in header.items()
        }

    def names(self) -> list[str]:
        """Of the tensors."""
        return list(self._entries)

    def read(self, name: str) -> torch.Tensor:
        """A tensor, in memory of its own.

        Raises:
            ModelLoadError: it cannot be read, or its dtype is not known here.
        """
        entry = self._entries[name]
        dtype = DTYPES.get(entry.dtype)
        if dtype is None:
            raise ModelLoadError(
                f"{self._path}: tensor {name} is of dtype {entry.dtype}, known are {', '.join(DTYPES)}"
            )
        tensor = torch.empty(entry.shape, dtype=dtype)
        content = tensor.view(-1).view(torch.uint8).numpy().data
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(entry.start)
                while content:
                    count = file.readinto(content)
                    if not count:
                        raise ModelLoadError(f"{self._path}: is truncated in the middle of tensor {name}")
                    content = content[count:]
        except OSError as error:
            raise ModelLoadError(f"{self._path}: tensor {name} cannot be read: {error.strerror}") from error
        return tensor
