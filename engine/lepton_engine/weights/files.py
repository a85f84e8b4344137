"""The files that hold a checkpoint's tensors: safetensors or PyTorch's, one or sharded."""

import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from lepton_engine.errors import ModelLoadError


class TensorFiles(Mapping[str, torch.Tensor]):
    """Tensors by name, read from their file when asked for.

    Raises:
        ModelLoadError: from reading, when a file is missing or damaged; the message names it.
    """

    def __init__(self, file_of: dict[str, Path]) -> None:
        self._file_of = file_of
        self._open: dict[Path, Any] = {}

    def __len__(self) -> int:
        return len(self._file_of)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __getitem__(self, name: str) -> torch.Tensor:
        path = self._file_of[name]
        if path not in self._open:
            self._open[path] = _open_file(path)
        content = self._open[path]
        try:
            tensor = content[name] if isinstance(content, dict) else content.get_tensor(name)
        except (SafetensorError, KeyError) as error:
            raise ModelLoadError(f"{path}: tensor {name} cannot be read: {error}") from error
        if not isinstance(tensor, torch.Tensor):
            raise ModelLoadError(f"{path}: {name} is no tensor")
        return tensor


def open_tensor_files(folder: Path) -> TensorFiles:
    """The tensors of a folder: model.safetensors, its sharded form, or the same as pytorch_model.bin.

    Raises:
        ModelLoadError: there are none, a shard is missing, or a file is damaged.
    """
    for single in ("model.safetensors", "pytorch_model.bin"):
        index, path = folder / f"{single}.index.json", folder / single
        if path.exists():
            return TensorFiles(dict.fromkeys(_names(path), path))
        if index.exists():
            return TensorFiles(_sharded(index))
    raise ModelLoadError(f"{folder}: holds neither model.safetensors nor pytorch_model.bin, nor an index of shards")


def _sharded(index: Path) -> dict[str, Path]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = {name: index.parent / Path(file).name for name, file in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelLoadError(f"{index}: is no index of shards: {error!r}") from error
    for path in sorted(set(files.values())):
        if not path.exists():
            raise ModelLoadError(f"{path}: the shard is missing, {index.name} names it")
        held = set(_names(path))
        lacking = [name for name, file in files.items() if file == path and name not in held]
        if lacking:
            raise ModelLoadError(f"{path}: tensor {lacking[0]} is missing, {index.name} says that it is here")
    return files


def _names(path: Path) -> list[str]:
    content = _open_file(path)
    return list(content) if isinstance(content, dict) else list(content.keys())


def _open_file(path: Path) -> Any:
    """An open safetensors file, or the mapping in a PyTorch file; neither can run code."""
    try:
        if path.suffix == ".safetensors":
            return safe_open(path, framework="pt")
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelLoadError(
            f"{path}: is refused, it holds more than tensors and unpickling it could run code"
        ) from error
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise ModelLoadError(f"{path}: is truncated or damaged: {error}") from error
    if not isinstance(content, dict):
        raise ModelLoadError(f"{path}: holds no mapping of tensors")
    return content
