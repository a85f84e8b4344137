"""Small checkpoints written by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(4, 3, generator=generator),
        "a.bias": torch.randn(4, generator=generator),
        "b.half": torch.randn(2, 5, generator=generator).bfloat16(),
        "c.scalar": torch.tensor(3.5),
        "d.empty": torch.empty(0, 7),
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes files (a mapping becomes JSON) into a folder and returns it."""

    def write_files(**files: Any) -> Path:
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path

    return write_files


@pytest.fixture
def shards(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> Callable[[str], Path]:
    """Writes the tensors as two shards and an index, `suffix` being safetensors or bin; returns the folder."""

    def write_shards(suffix: str) -> Path:
        stem = "model" if suffix == "safetensors" else "pytorch_model"
        names = list(tensors)
        weight_map: dict[str, str] = {}
        for number, part in enumerate((names[:2], names[2:]), start=1):
            file = f"{stem}-{number:05}-of-00002.{suffix}"
            held = {name: tensors[name] for name in part}
            if suffix == "safetensors":
                save_file(held, tmp_path / file)
            else:
                torch.save(held, tmp_path / file)
            weight_map |= dict.fromkeys(part, file)
        (tmp_path / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": weight_map}))
        (tmp_path / "config.json").write_text("{}")
        return tmp_path

    return write_shards
