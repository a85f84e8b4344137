"""2:4 weights: which become sparse, what is computed with them, and the real products where a device has them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lepton_engine.kernels import sparse
from lepton_engine.kernels.sparse import SparseWeight, is_two_of_four, sparsify
from lepton_engine.layers.linear import Linear
from lepton_engine.models.loader import load_model
from lepton_engine.offline.prune import Sparsity, prune_checkpoint, prune_weight
from lepton_engine.weights.checkpoint import open_checkpoint

CPU = torch.device("cpu")
IDS = [3, 17, 44, 9, 60, 2, 31, 17]


@pytest.fixture
def sparse_device(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The CPU stands for a device with sparse products; returns the shapes that were converted."""
    made: list[tuple[int, ...]] = []

    def convert(weight: torch.Tensor) -> torch.Tensor:
        made.append(tuple(weight.shape))
        return weight.clone()

    monkeypatch.setattr(sparse, "has_sparse_products", lambda device, dtype: dtype != torch.float32)
    monkeypatch.setattr(torch.sparse, "to_sparse_semi_structured", convert)
    return made


def pruned(rows: int, columns: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return prune_weight(torch.randn(rows, columns).to(dtype), Sparsity(None))


def test_which_weights_have_two_of_four() -> None:
    weight = pruned(8, 16)
    assert is_two_of_four(weight)
    weight[3, :3] = 1
    assert not is_two_of_four(weight)
    assert not is_two_of_four(torch.zeros(4, 6))


@pytest.mark.usefixtures("sparse_device")
def test_what_has_no_sparse_form_stays() -> None:
    assert sparsify(pruned(64, 128)) is not None
    assert sparsify(pruned(64, 128, torch.float32)) is None
    assert sparsify(pruned(64, 96)) is None
    assert sparsify(pruned(96, 64)) is None
    assert sparsify(torch.randn(64, 128).bfloat16()) is None


@pytest.mark.usefixtures("sparse_device")
def test_a_conversion_that_fails_leaves_dense_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(weight: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(torch.sparse, "to_sparse_semi_structured", fail)
    assert sparsify(pruned(64, 128)) is None


def test_the_cpu_computes_densely() -> None:
    assert sparsify(pruned(64, 128)) is None


@pytest.mark.usefixtures("unpacked")
def test_pruned_checkpoints_are_loaded_as_sparse(
    sparse_device: list[tuple[int, ...]],
    saved: Callable[..., Path],
    make_llama: Callable[..., Any],
    logits_of: Callable[..., torch.Tensor],
    tmp_path: Path,
) -> None:
    source = saved(make_llama().bfloat16())
    prune_checkpoint(source, tmp_path / "sparse", Sparsity(None))
    model = load_model(open_checkpoint(tmp_path / "sparse"), dtype=torch.bfloat16, device=CPU)
    linears = [layer.weight for layer in model.modules() if isinstance(layer, Linear)]
    assert all(isinstance(weight, SparseWeight) for weight in linears)
    assert len(sparse_device) == len(linears) == 8
    plain = load_model(open_checkpoint(source), dtype=torch.bfloat16, device=CPU)
    assert not any(isinstance(layer.weight, SparseWeight) for layer in plain.modules() if isinstance(layer, Linear))
    assert model.sizes()[0] == plain.sizes()[0]
    assert model.sizes()[1] < plain.sizes()[1]
    assert torch.isfinite(logits_of(model, IDS)).all()
