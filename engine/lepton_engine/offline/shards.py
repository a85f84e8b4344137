"""Writes tensors to safetensors files as they come, a shard at a time."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

SHARD_BYTES = 4 << 30


class ShardWriter:
    """Collects tensors and writes a file whenever a shard is full; `finish` gives the files their names.

    Args:
        folder: exists and holds no weights yet. shard_bytes: most bytes in a file, unless one tensor has more.

    Raises:
        OSError: from writing; the disk is full, for example.
    """

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder = folder
        self._shard_bytes = shard_bytes
        self._held: dict[str, torch.Tensor] = {}
        self._held_bytes = 0
        self._shards: list[list[str]] = []
        self.total_bytes = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """One more tensor."""
        if self._held and self._held_bytes + tensor.nbytes > self._shard_bytes:
            self._flush()
        self._held[name] = tensor.detach().cpu().contiguous()
        self._held_bytes += tensor.nbytes
        self.total_bytes += tensor.nbytes

    def finish(self) -> None:
        """Write what is left; one file is model.safetensors, several are model-0000I-of-0000N with an index."""
        self._flush()
        count = len(self._shards)
        if count == 1:
            self._path(0).rename(self._folder / "model.safetensors")
            return
        weight_map = {}
        for number, names in enumerate(self._shards):
            file = f"model-{number + 1:05}-of-{count:05}.safetensors"
            self._path(number).rename(self._folder / file)
            weight_map.update(dict.fromkeys(names, file))
        index = {"metadata": {"total_size": self.total_bytes}, "weight_map": dict(sorted(weight_map.items()))}
        (self._folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")

    def _flush(self) -> None:
        path = self._path(len(self._shards))
        try:
            save_file(self._held, path, metadata={"format": "pt"})
            path.chmod(0o644)  # The library makes it readable for its writer alone.
        except SafetensorError as error:
            raise OSError(str(error)) from error
        self._shards.append(list(self._held))
        self._held = {}
        self._held_bytes = 0

    def _path(self, number: int) -> Path:
        return self._folder / f"shard-{number:05}"
