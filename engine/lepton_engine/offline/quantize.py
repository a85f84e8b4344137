"""Quantises a checkpoint into one in the format of compressed-tensors."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lepton_engine.errors import ModelLoadError
from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.offline.folder import copy_other_files, new_folder
from lepton_engine.offline.shards import SHARD_BYTES, ShardWriter
from lepton_engine.offline.source import Progress, Source, open_source
from lepton_engine.quantization.packing import pack_words
from lepton_engine.quantization.rounding import UnquantizableError, quantize_weight
from lepton_engine.quantization.scheme import Scheme

HEAD = "lm_head.weight"


def quantize_checkpoint(
    source: str | os.PathLike[str],
    target: Path,
    scheme: Scheme,
    *,
    search: bool = True,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = lambda done, total, name: None,
) -> int:
    """Write a quantised copy of a checkpoint; the target appears when it is complete.

    Args:
        source: a folder, or an id in the local Hugging Face cache. search: see `quantize_weight`.

    Returns:
        Bytes of the tensors written.

    Raises:
        InvalidRequestError: the target is there already, or the source is quantised.
        ModelLoadError: the source is damaged, or a weight has no quantised form; the message names it.
        WriteError: writing failed; nothing is left.
    """
    plain = open_source(source)
    with new_folder(target) as folder, torch.inference_mode():
        writer = ShardWriter(folder, shard_bytes)
        linear = plain.linear_weights()
        if scheme.head and not plain.model.vocabulary.tied:
            linear.add(HEAD)
        tied = HEAD not in linear and scheme.head
        for name, tensor in plain.tensors(progress):
            if name in linear:
                _add(writer, plain, name, tensor, scheme, search)
            else:
                writer.add(name, tensor)
            if tied and name == EMBEDDING:
                _add(writer, plain, HEAD, tensor, scheme, search)
        writer.finish()
        config = {**plain.checkpoint.config, "quantization_config": quantization_config(scheme)}
        if tied:
            config["tie_word_embeddings"] = False
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        copy_other_files(plain.folder, folder)
        return writer.total_bytes


EMBEDDING = "model.embed_tokens.weight"


def _add(writer: ShardWriter, plain: Source, name: str, tensor: torch.Tensor, scheme: Scheme, search: bool) -> None:
    scheme = scheme.for_head if name == HEAD else replace(scheme, head=False)
    dtype = plain.checkpoint.dtype
    try:
        weight = quantize_weight(tensor, scheme, search=search, scale_dtype=dtype)
    except UnquantizableError as error:
        raise ModelLoadError(f"{plain.folder}: tensor {name} cannot be quantised to {scheme.name}: {error}") from error
    for suffix, part in compressed(weight, dtype).items():
        writer.add(f"{name.removesuffix('weight')}{suffix}", part)


def compressed(weight: QuantizedWeight, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The tensors of a module by compressed-tensors' names; scales in the dtype of the model's plain weights."""
    parts = {"weight_scale": weight.scales.to(dtype)}
    if weight.scheme != "int4":
        return {"weight": weight.data, **parts}
    # Two nibbles a byte, lowest first, are already the little-endian words of the format.
    parts["weight_packed"] = pack_words(weight.integers(), 4, 1)
    parts["weight_shape"] = torch.tensor([weight.out_features, weight.in_features])
    if weight.zeros is not None:
        parts["weight_zero_point"] = pack_words(weight.zeros, 4, 0)
    return parts


def quantization_config(scheme: Scheme) -> dict[str, Any]:
    """config.json's `quantization_config` for a scheme."""
    groups = {"group_0": _group(replace(scheme, head=False), ["Linear"])}
    if scheme.head and scheme.for_head != replace(scheme, head=False):
        groups["group_1"] = _group(scheme.for_head, ["lm_head"])
    forms = {group["format"] for group in groups.values()}
    return {
        "quant_method": "compressed-tensors",
        "format": forms.pop() if len(forms) == 1 else "mixed-precision",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": [] if scheme.head else ["lm_head"],
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }


def _group(scheme: Scheme, targets: list[str]) -> dict[str, Any]:
    kind = "float" if scheme.weights == "fp8" else "int"
    weights: dict[str, Any] = {"num_bits": 8, "type": kind, "symmetric": True, "strategy": "channel", "dynamic": False}
    form = "float-quantized" if kind == "float" else "int-quantized"
    if scheme.weights == "int4":
        weights |= {"num_bits": 4, "symmetric": scheme.symmetric, "strategy": "group", "group_size": scheme.group_size}
        form = "pack-quantized"
    inputs = None
    if scheme.activations is not None:
        inputs = {"num_bits": 8, "type": kind, "symmetric": True, "strategy": "token", "dynamic": True}
    return {
        "targets": targets,
        "weights": weights,
        "input_activations": inputs,
        "output_activations": None,
        "format": form,
    }
