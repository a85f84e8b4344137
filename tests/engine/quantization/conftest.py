"""Checkpoints of a small Llama, quantised by the compressed-tensors package, and modules read back from them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationConfig,
    QuantizationScheme,
    apply_quantization_config,
)
from compressed_tensors.quantization.utils import calculate_qparams

from lepton_engine.core.kv_layout import KVCacheLayout
from lepton_engine.kernels import dispatch
from lepton_engine.kernels.batch import BatchContext, KVGroupBatch
from lepton_engine.models.base import CausalLM
from lepton_engine.quantization.stored import StoredModule
from lepton_engine.runtime.kv_memory import allocate_kv_cache, kv_groups
from lepton_engine.weights.checkpoint import Checkpoint
from tests.engine.quantization.weights import spread

CPU = torch.device("cpu")
BLOCK = 4
SHAPE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def llama(**options: Any) -> Any:
    """Random weights that spread the logits; a channel and a group of zeros among them."""
    config = transformers.LlamaConfig(**{**SHAPE, **options}, dtype="float32")
    module: Any = transformers.LlamaForCausalLM(config)
    module.eval()
    spread(module)
    with torch.no_grad():
        module.model.layers[0].mlp.up_proj.weight[5] = 0
        module.model.layers[0].mlp.gate_proj.weight[7, :64] = 0
    return module


def _groups(weight: torch.Tensor, args: QuantizationArgs) -> torch.Tensor:
    """The weight's values by what a scale belongs to, [..., values]."""
    if args.strategy == "tensor":
        return weight.reshape(1, -1)
    if args.strategy == "block":
        height, width = args.block_structure or [1, 1]
        blocks = weight.unflatten(0, (-1, height)).unflatten(2, (-1, width))  # type: ignore[no-untyped-call]
        return blocks.transpose(1, 2).flatten(2)  # type: ignore[no-any-return]
    size = args.group_size if args.strategy == "group" else weight.shape[1]
    return weight.view(weight.shape[0], -1, size or 1)


def compress(module: Any, folder: Path, groups: dict[str, Any], ignore: list[str], form: str | None = None) -> Path:
    """Quantises a module and saves it, both by the package; leaves it with the values that were saved.

    Scales are from the least and greatest values.
    """
    schemes: Any = {name: QuantizationScheme(**group) for name, group in groups.items()}
    apply_quantization_config(module, QuantizationConfig(config_groups=schemes, ignore=ignore))
    for layer in module.modules():
        scheme = getattr(layer, "quantization_scheme", None)
        if scheme is None or scheme.weights is None:
            continue
        grouped = _groups(layer.weight.detach(), scheme.weights)
        scale, zero = calculate_qparams(grouped.amin(-1), grouped.amax(-1), scheme.weights)
        layer.weight_scale.data.copy_(scale.view(layer.weight_scale.shape))
        if getattr(layer, "weight_zero_point", None) is not None:
            layer.weight_zero_point.data.copy_(zero.view(layer.weight_zero_point.shape))
    compressor: Any = ModelCompressor.from_pretrained_model(module, quantization_format=form)
    compressor.compress_model(module)
    module.save_pretrained(folder)
    compressor.update_config(str(folder))
    compressor.decompress_model(module)
    return folder


@pytest.fixture
def make_llama() -> Callable[..., Any]:
    return llama


@pytest.fixture
def compressed(tmp_path: Path) -> Callable[..., tuple[Path, Any]]:
    """A Llama's checkpoint by compressed-tensors (config groups, ignore, format), and the Llama as it was saved."""

    def make(
        groups: dict[str, Any], ignore: tuple[str, ...] = ("lm_head",), form: str | None = None
    ) -> tuple[Path, Any]:
        module = llama()
        return compress(module, tmp_path / "compressed", groups, list(ignore), form), module

    return make


def logits(model: CausalLM, ids: list[int], kv_dtype: torch.dtype | None = None) -> torch.Tensor:
    """Float32 [tokens, vocab_size] of one sequence, computed as a chunk of all but the last token, then that one."""
    dtype = kv_dtype or next(model.parameters()).dtype
    blocks = -(-len(ids) // BLOCK)
    groups = kv_groups(model.kv_layers, dtype)
    layout = KVCacheLayout(BLOCK, groups, (blocks + 1,) * len(groups), len(ids))
    caches = allocate_kv_cache(layout, model.kv_layers, dtype, CPU)
    model.bind_kv_cache(caches, [0] * len(caches))
    table = torch.arange(1, blocks + 1, dtype=torch.int32).view(1, -1)
    rows = []
    for first, last in ((0, len(ids) - 1), (len(ids) - 1, len(ids))):
        positions = torch.arange(first, last)
        batch = BatchContext(
            positions,
            torch.tensor([0, last - first], dtype=torch.int32),
            torch.tensor([last], dtype=torch.int32),
            (last - first,),
            last,
            (KVGroupBatch(table, positions + BLOCK),),
        )
        with torch.inference_mode():
            rows.append(model.logits(model(torch.tensor(ids[first:last]), batch)))
    return torch.cat(rows)


@pytest.fixture
def logits_of() -> Callable[..., torch.Tensor]:
    return logits


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights stay in the form in which they are loaded, for tests that look at them."""
    monkeypatch.setattr(dispatch, "pack", lambda *_, **__: None)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """The folder of a module's checkpoint, with a tokenizer that only has to be copied."""

    def save(module: Any, name: str = "plain", **options: Any) -> Path:
        module.save_pretrained(tmp_path / name, **options)
        (tmp_path / name / "tokenizer.json").write_text("{}")
        return tmp_path / name

    return save


@pytest.fixture
def module_of() -> Callable[..., StoredModule]:
    """A module of a checkpoint, by name and size."""

    def make(checkpoint: Checkpoint, name: str, shape: tuple[int, int], **options: Any) -> StoredModule:
        settings: dict[str, Any] = {"has_bias": False, "transposed": False, **options}
        return StoredModule("here", name, *shape, names=checkpoint.names(), fetch=checkpoint.tensor, **settings)

    return make


@pytest.fixture
def read_config() -> Callable[[Path], dict[str, Any]]:
    return lambda folder: json.loads((folder / "config.json").read_text())["quantization_config"]
