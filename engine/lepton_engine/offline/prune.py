"""Prunes a checkpoint: sets the weights of linear layers to zero that have the least magnitude."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from lepton_engine.errors import InvalidRequestError, ModelLoadError
from lepton_engine.offline.folder import copy_other_files, new_folder
from lepton_engine.offline.shards import SHARD_BYTES, ShardWriter
from lepton_engine.offline.source import Progress, open_source
from lepton_engine.weights.checkpoint import SPARSITY_FIELD

_PATTERN = re.compile(r"2:4")


@dataclass(frozen=True)
class Sparsity:
    """Which weights become zero.

    Attributes:
        share: of each layer's weights, from 0 up to 1; None is two of every four neighbours along the inputs, which
            GPUs have kernels for (Mishra et al. 2021).
    """

    share: float | None


def parse_sparsity(text: str) -> Sparsity:
    """From "2:4", or a share such as "0.5" or "50%".

    Raises:
        InvalidRequestError: it is neither.
    """
    if _PATTERN.fullmatch(text.strip()):
        return Sparsity(None)
    try:
        share = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise InvalidRequestError("sparsity", f"{text!r} is neither 2:4 nor a share between 0 and 1")
    return Sparsity(share)


def prune_weight(weight: torch.Tensor, sparsity: Sparsity) -> torch.Tensor:
    """A weight [out, in] with its least magnitudes set to zero; of equal ones the later go first.

    Raises:
        ValueError: 2:4 with a number of inputs that 4 does not divide, or values that are not finite.
    """
    if not torch.isfinite(weight).all():
        raise ValueError("some of its values are infinite or NaN")
    magnitude = weight.abs().float()
    if sparsity.share is None:
        if weight.shape[1] % 4:
            raise ValueError(f"it has {weight.shape[1]} inputs, which 4 does not divide")
        order = magnitude.view(weight.shape[0], -1, 4).argsort(dim=-1, descending=True, stable=True)
        mask = torch.zeros_like(order, dtype=torch.bool).scatter_(-1, order[..., :2], True).view(weight.shape)
    else:
        kept = weight.numel() - round(weight.numel() * sparsity.share)
        order = magnitude.flatten().argsort(descending=True, stable=True)
        mask = torch.zeros(weight.numel(), dtype=torch.bool).scatter_(0, order[:kept], True).view(weight.shape)
    return torch.where(mask, weight, torch.zeros((), dtype=weight.dtype))


def prune_checkpoint(
    source: str | os.PathLike[str],
    target: Path,
    sparsity: Sparsity,
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = lambda done, total, name: None,
) -> float:
    """Write a pruned copy of a checkpoint, in the same format; the target appears when it is complete.

    The embedding and the output layer stay whole.

    Returns:
        The share of zeros among the weights of the linear layers.

    Raises:
        InvalidRequestError: the target is there already, or the source is quantised.
        ModelLoadError: the source is damaged, or a weight cannot be pruned.
        WriteError: writing failed; nothing is left.
    """
    plain = open_source(source)
    zeros = total = 0
    with new_folder(target) as folder, torch.inference_mode():
        writer = ShardWriter(folder, shard_bytes)
        linear = plain.linear_weights()
        for name, tensor in plain.tensors(progress):
            stored = tensor
            if name in linear:
                try:
                    stored = prune_weight(tensor, sparsity)
                except ValueError as error:
                    raise ModelLoadError(f"{plain.folder}: tensor {name} cannot be pruned: {error}") from error
                zeros += int((stored == 0).sum())
                total += stored.numel()
            writer.add(name, stored)
        writer.finish()
        said = "2:4" if sparsity.share is None else sparsity.share
        config = {**plain.checkpoint.config, SPARSITY_FIELD: said}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        copy_other_files(plain.folder, folder)
    return zeros / max(1, total)
