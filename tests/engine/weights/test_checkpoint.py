"""What a checkpoint says beside its tensors, and where it is found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file

from lepton_engine.errors import ModelLoadError
from lepton_engine.weights.checkpoint import Checkpoint, from_module, open_checkpoint
from lepton_engine.weights.locate import locate_checkpoint


@pytest.fixture
def checkpoint(write: Callable[..., Path], tensors: dict[str, torch.Tensor]) -> Callable[..., Checkpoint]:
    def make(**files: Any) -> Checkpoint:
        folder = write(**files)
        save_file({"b.half": tensors["b.half"]}, folder / "model.safetensors")
        return open_checkpoint(folder)

    return make


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        ({"dtype": "float16"}, torch.float16),
        ({"torch_dtype": "float32"}, torch.float32),
        ({"torch_dtype": "bfloat16", "dtype": None}, torch.bfloat16),
        ({"dtype": "torch.float16"}, torch.float16),
        ({}, torch.bfloat16),  # the tensors'
    ],
)
def test_dtype(checkpoint: Callable[..., Checkpoint], config: dict[str, Any], dtype: torch.dtype) -> None:
    assert checkpoint(config=config).dtype == dtype


@pytest.mark.parametrize("value", ["int8", 16, ["float32"]])
def test_dtype_that_is_none(checkpoint: Callable[..., Checkpoint], value: object) -> None:
    with pytest.raises(ModelLoadError, match=r"config.json: dtype is .*, known are float32, bfloat16, float16"):
        _ = checkpoint(config={"dtype": value}).dtype


def test_eos_token_ids(checkpoint: Callable[..., Checkpoint]) -> None:
    assert checkpoint(config={}).eos_token_ids == []
    assert checkpoint(config={"eos_token_id": 3}).eos_token_ids == [3]
    assert checkpoint(config={"eos_token_id": 3}, generation_config={"eos_token_id": [5, 6]}).eos_token_ids == [5, 6]


@pytest.mark.parametrize("value", ["2", -1, True, [2, "3"], 1.5])
def test_eos_token_ids_of_the_wrong_type(checkpoint: Callable[..., Checkpoint], value: object) -> None:
    with pytest.raises(ModelLoadError, match=r"config.json: eos_token_id is"):
        _ = checkpoint(config={"eos_token_id": value}).eos_token_ids


def test_default_sampling(checkpoint: Callable[..., Checkpoint]) -> None:
    said = {"temperature": 0.6, "top_p": 0.9, "top_k": 50, "do_sample": True, "max_length": 20}
    assert checkpoint(config={}, generation_config=said).default_sampling == {
        "temperature": 0.6,
        "top_p": 0.9,
        "top_k": 50,
    }
    greedy = checkpoint(config={}, generation_config={"do_sample": False, "temperature": 0.6})
    assert greedy.default_sampling == {"temperature": 0.0}
    with pytest.raises(ModelLoadError, match=r"generation_config.json: top_p is 'high'"):
        _ = checkpoint(config={}, generation_config={"top_p": "high"}).default_sampling
    with pytest.raises(ModelLoadError, match=r"generation_config.json: top_p: 7 is outside"):
        _ = checkpoint(config={}, generation_config={"top_p": 7}).default_sampling


def test_no_config(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"config.json: cannot be read"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[]", "holds no mapping"), ("", "is not JSON")])
def test_broken_config(write: Callable[..., Path], text: str, message: str) -> None:
    with pytest.raises(ModelLoadError, match=rf"config.json: {message}"):
        open_checkpoint(write(config=text))


def test_module() -> None:
    config = transformers.GPT2Config(
        n_embd=8, n_head=2, n_layer=1, vocab_size=11, n_positions=16, bos_token_id=0, eos_token_id=1
    )
    module: Any = transformers.GPT2LMHeadModel(config)
    module.half()
    checkpoint = from_module(module)
    assert checkpoint.dtype == torch.float16
    assert checkpoint.model_type == "gpt2"
    assert checkpoint.eos_token_ids == [1]
    assert checkpoint.tensor("transformer.wte.weight").data_ptr() == module.transformer.wte.weight.data_ptr()


def test_neither_path_nor_module() -> None:
    with pytest.raises(ModelLoadError, match="int is neither a path nor a transformers module"):
        from_module(3)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    repository = tmp_path / "hub" / "models--acme--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123\n")
    (repository / "snapshots" / "abc123").mkdir(parents=True)
    (repository / "snapshots" / "def456").mkdir(parents=True)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    return repository / "snapshots"


def test_hub_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate_checkpoint("acme/tiny") == cache / "abc123"
    assert locate_checkpoint("acme/tiny@def456") == cache / "def456"
    monkeypatch.setenv("HF_HOME", "/nowhere")
    monkeypatch.setenv("HF_HUB_CACHE", str(cache.parent.parent))
    assert locate_checkpoint("acme/tiny") == cache / "abc123"


def test_not_found(cache: Path, tmp_path: Path) -> None:
    assert locate_checkpoint(tmp_path) == tmp_path
    with pytest.raises(ModelLoadError, match=r"'acme/other' is no folder, and .*models--acme--other does not exist"):
        locate_checkpoint("acme/other")
    with pytest.raises(ModelLoadError, match="no snapshot of revision 'v2'"):
        locate_checkpoint("acme/tiny@v2")
    (cache / "abc123").rmdir()
    with pytest.raises(ModelLoadError, match="no snapshot of revision 'main'"):
        locate_checkpoint("acme/tiny")
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelLoadError, match="is a file, a checkpoint is a folder"):
        locate_checkpoint(tmp_path / "file")
