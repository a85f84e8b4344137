"""Models of the two shapes with random weights: made on the device, or written as a checkpoint."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lepton_engine.layers.linear import Linear
from lepton_engine.models.base import CausalLM
from lepton_engine.models.registry import build_model
from lepton_engine.quantization.rounding import quantize_weight
from lepton_engine.quantization.scheme import parse_scheme

COMMON = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "hidden_act": "silu",
    "bos_token_id": 0,
    "eos_token_id": 1,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
SHAPES: dict[str, dict[str, Any]] = {
    "8B": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "1B": {
        "vocab_size": 32000,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
_SHARD = 4 << 30
_STD = 0.02


def config_of(shape: str) -> dict[str, Any]:
    """A shape's config.json."""
    return {**COMMON, **SHAPES[shape]}


def random_model(shape: str, scheme: str | None, device: torch.device) -> CausalLM:
    """A model of a shape with random bf16 weights, those of its layers quantised by the named scheme."""
    with torch.device("meta"):
        model = build_model(config_of(shape))
    parsed = None if scheme is None else parse_scheme(scheme)
    torch.manual_seed(0)
    with torch.inference_mode():
        for module in model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                weight = torch.empty(parameter.shape, dtype=torch.bfloat16, device=device).normal_(std=_STD)
                if parameter.dim() == 1:
                    weight.fill_(1.0)
                if parsed is not None and isinstance(module, Linear) and name == "weight":
                    module.adopt(quantize_weight(weight, parsed))
                else:
                    setattr(module, name, nn.Parameter(weight, requires_grad=False))
        model.build_tables(device)
    return model.eval()


def step_bytes(model: CausalLM) -> int:
    """Bytes of weights that a decode step reads: all but the embedding's other rows."""
    embedding = model.vocabulary.embedding
    unread = 0 if model.vocabulary.head is None or not isinstance(embedding, torch.Tensor) else embedding.nbytes
    return model.sizes()[1] - unread


def linear_parameters(shape: str) -> int:
    """Weights of the layers' products, each used once per prompt token."""
    size = SHAPES[shape]
    hidden, heads = size["hidden_size"], size["num_attention_heads"]
    kv = hidden // heads * size["num_key_value_heads"]
    per_layer = hidden * (2 * hidden + 2 * kv) + 3 * hidden * size["intermediate_size"]
    return int(per_layer * size["num_hidden_layers"])


def _tensors(shape: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    with torch.device("meta"):
        slots = build_model(config_of(shape)).weight_slots()
    for name, slot in slots.items():
        yield name, slot.expected_shape()


def write_checkpoint(shape: str, folder: Path) -> Path:
    """The folder with a shape's checkpoint of random weights in safetensors shards; made once."""
    if (folder / "config.json").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shards: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    size = 0
    for name, dimensions in _tensors(shape):
        if size and size + 2 * math.prod(dimensions) > _SHARD:
            shards.append([])
            size = 0
        shards[-1].append((name, dimensions))
        size += 2 * math.prod(dimensions)
    index = {}
    for number, tensors in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        index.update({name: file for name, _ in tensors})
        _write_shard(folder / file, tensors)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text(json.dumps(config_of(shape)))
    return folder


def _write_shard(path: Path, tensors: list[tuple[str, tuple[int, ...]]]) -> None:
    """The safetensors format: length of the header, the header as JSON, the tensors' bytes."""
    header, offset = {}, 0
    for name, dimensions in tensors:
        end = offset + 2 * math.prod(dimensions)
        header[name] = {"dtype": "BF16", "shape": list(dimensions), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with path.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for _, dimensions in tensors:
            values = torch.empty(dimensions, dtype=torch.bfloat16, device=device).normal_(std=_STD)
            if len(dimensions) == 1:
                values.fill_(1.0)
            out.write(values.cpu().view(torch.uint8).numpy().data)
