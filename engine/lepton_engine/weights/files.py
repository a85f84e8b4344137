"""The files that hold a checkpoint's tensors: safetensors or PyTorch's, one or sharded."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from lepton_engine.errors import ModelLoadError
from lepton_engine.weights.pytorch_file import PyTorchFile
from lepton_engine.weights.safetensors_file import SafetensorsFile


class TensorFiles(Mapping[str, torch.Tensor]):
    """Tensors by name, read from their file when asked for.

    Raises:
        ModelLoadError: from reading, when a file is damaged; the message names it.
    """

    def __init__(self, file_of: Mapping[str, SafetensorsFile | PyTorchFile]) -> None:
        self._file_of = file_of

    def __len__(self) -> int:
        return len(self._file_of)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._file_of[name].read(name)


def open_tensor_files(folder: Path) -> TensorFiles:
    """The tensors of a folder: model.safetensors, its sharded form, the same as pytorch_model.bin, or a sole file.

    Raises:
        ModelLoadError: there are none, a shard is missing, or a file is damaged.
    """
    for single in ("model.safetensors", "pytorch_model.bin"):
        index, path = folder / f"{single}.index.json", folder / single
        if path.exists():
            file = _open(path)
            return TensorFiles(dict.fromkeys(file.names(), file))
        if index.exists():
            return TensorFiles(_sharded(index))
    # Quantised checkpoints of the first kind have a name of their own.
    others = sorted(folder.glob("*.safetensors"))
    if len(others) == 1:
        file = _open(others[0])
        return TensorFiles(dict.fromkeys(file.names(), file))
    raise ModelLoadError(f"{folder}: holds neither model.safetensors nor pytorch_model.bin, nor an index of shards")


def _sharded(index: Path) -> dict[str, SafetensorsFile | PyTorchFile]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        # Only the name counts: an index must not lead out of its folder.
        paths = {name: index.parent / Path(file).name for name, file in weight_map.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelLoadError(f"{index}: is no index of shards: {error!r}") from error
    found: dict[str, SafetensorsFile | PyTorchFile] = {}
    for path in sorted(set(paths.values())):
        if not path.exists():
            raise ModelLoadError(f"{path}: the shard is missing, {index.name} names it")
        file = _open(path)
        held = set(file.names())
        for name in (name for name, where in paths.items() if where == path):
            if name not in held:
                raise ModelLoadError(f"{path}: tensor {name} is missing, {index.name} says that it is here")
            found[name] = file
    return found


def _open(path: Path) -> SafetensorsFile | PyTorchFile:
    return SafetensorsFile(path) if path.suffix == ".safetensors" else PyTorchFile(path)
