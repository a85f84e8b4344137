"""Files of tensors: every layout is read alike, and every kind of damage is named with its file."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lepton_engine.errors import ModelLoadError
from lepton_engine.weights.files import open_tensor_files

Tensors = dict[str, torch.Tensor]
SUFFIXES = ["safetensors", "bin"]


def single(folder: Path, tensors: Tensors, suffix: str, **options: Any) -> Path:
    path = folder / ("model.safetensors" if suffix == "safetensors" else "pytorch_model.bin")
    if suffix == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, **options)
    return path


def check(folder: Path, tensors: Tensors) -> None:
    files = open_tensor_files(folder)
    assert set(files) == set(tensors)
    assert len(files) == len(tensors)
    for name, tensor in tensors.items():
        assert files[name].dtype == tensor.dtype
        assert torch.equal(files[name], tensor)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_single(tmp_path: Path, tensors: Tensors, suffix: str) -> None:
    single(tmp_path, tensors, suffix)
    check(tmp_path, tensors)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sharded(tensors: Tensors, shards: Callable[[str], Path], suffix: str) -> None:
    check(shards(suffix), tensors)


def test_pytorch_file_of_before_the_archive(tmp_path: Path, tensors: Tensors) -> None:
    single(tmp_path, tensors, "bin", _use_new_zipfile_serialization=False)
    check(tmp_path, tensors)


def test_safetensors_before_pytorch(tmp_path: Path, tensors: Tensors) -> None:
    single(tmp_path, tensors, "safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"not read")
    check(tmp_path, tensors)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"holds neither model.safetensors nor pytorch_model.bin"):
        open_tensor_files(tmp_path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_shard(shards: Callable[[str], Path], suffix: str) -> None:
    folder = shards(suffix)
    (gone,) = folder.glob(f"*00002-of-00002.{suffix}")
    gone.unlink()
    with pytest.raises(ModelLoadError, match=rf"{gone.name}: the shard is missing"):
        open_tensor_files(folder)


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_shard(shards: Callable[[str], Path], suffix: str, keep: int) -> None:
    folder = shards(suffix)
    (path,) = folder.glob(f"*00001-of-00002.{suffix}")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelLoadError, match=rf"{path.name}: is truncated or damaged"):
        open_tensor_files(folder)


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated_pytorch_file(tmp_path: Path, tensors: Tensors, archive: bool, share: float) -> None:
    path = single(tmp_path, tensors, "bin", _use_new_zipfile_serialization=archive)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelLoadError, match=r"pytorch_model.bin: is truncated or damaged"):
        open_tensor_files(tmp_path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"])
def test_other_content(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / ("model.safetensors" if suffix == "safetensors" else "pytorch_model.bin")
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=rf"{path.name}: is truncated or damaged"):
        open_tensor_files(tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 800]},
        {"dtype": "F32", "shape": [200], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32"},
    ],
    ids=str,
)
def test_header_that_lies(tmp_path: Path, entry: dict[str, Any]) -> None:
    header = json.dumps({"a": entry}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\x00" * 8)
    with pytest.raises(ModelLoadError, match=r"model.safetensors: is truncated or damaged"):
        open_tensor_files(tmp_path)


def test_file_that_shrinks_after_opening(tmp_path: Path) -> None:
    path = single(tmp_path, {"a": torch.zeros(1000)}, "safetensors")
    files = open_tensor_files(tmp_path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ModelLoadError, match="is truncated in the middle of tensor a"):
        files["a"]


def test_index_that_names_a_tensor_its_shard_lacks(shards: Callable[[str], Path]) -> None:
    folder = shards("safetensors")
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["z.weight"] = content["weight_map"]["a.bias"]
    index.write_text(json.dumps(content))
    with pytest.raises(ModelLoadError, match=r"00001-of-00002.safetensors: tensor z.weight is missing"):
        open_tensor_files(folder)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'])
def test_broken_index(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelLoadError, match=r"index.json: is no index of shards"):
        open_tensor_files(tmp_path)


def test_index_cannot_lead_out_of_its_folder(tmp_path: Path, tensors: Tensors) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    single(tmp_path, tensors, "safetensors")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict.fromkeys(tensors, "../model.safetensors")})
    )
    with pytest.raises(ModelLoadError, match="the shard is missing"):
        open_tensor_files(folder)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.mark, "the code ran")


@pytest.mark.parametrize("form", ["archive", "before the archive", "plain pickle"])
def test_file_that_would_run_code(tmp_path: Path, form: str) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "pytorch_model.bin"
    content = {"a.weight": torch.zeros(2), "b": Payload(mark)}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "archive")
    with pytest.raises(ModelLoadError, match=r"pytorch_model.bin: is refused, .* could run code"):
        open_tensor_files(tmp_path)
    assert not mark.exists()
    torch.load(path, weights_only=False) if form != "plain pickle" else pickle.loads(path.read_bytes())
    assert mark.exists()  # the payload does work where it is let


@pytest.mark.parametrize(("content", "message"), [([1], "holds no mapping of tensors"), ({"a": 3}, "a is no tensor")])
def test_pytorch_file_of_something_else(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match=message):
        open_tensor_files(tmp_path)["a"]
