"""Reads PyTorch's own files (.bin), without ever unpickling more than tensors."""

import pickle
from pathlib import Path

import torch

from lepton_engine.errors import ModelLoadError

ZIP = b"PK\x03\x04"


class PyTorchFile:
    """The tensors of one file, by name; archives are mapped, files of before torch 1.6 are read whole.

    Raises:
        ModelLoadError: the file is damaged, or unpickling it could run code; the message names it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb") as file:
                archive = file.read(len(ZIP)) == ZIP
            content = torch.load(path, map_location="cpu", mmap=archive, weights_only=True)
        except pickle.UnpicklingError as error:
            if "global" not in str(error).lower():
                raise ModelLoadError(f"{path}: is truncated or damaged: it is no PyTorch file") from error
            raise ModelLoadError(
                f"{path}: is refused, it holds more than tensors and unpickling it could run code"
            ) from error
        except (OSError, RuntimeError, ValueError, EOFError, KeyError, IndexError) as error:
            raise ModelLoadError(f"{path}: is truncated or damaged: {error}") from error
        if not isinstance(content, dict):
            raise ModelLoadError(f"{path}: holds no mapping of tensors")
        self._content = content

    def names(self) -> list[str]:
        """Of the tensors."""
        return list(self._content)

    def read(self, name: str) -> torch.Tensor:
        """A tensor.

        Raises:
            ModelLoadError: what has this name is no tensor.
        """
        tensor = self._content[name]
        if not isinstance(tensor, torch.Tensor):
            raise ModelLoadError(f"{self._path}: {name} is no tensor")
        return tensor
