"""Linear layers divided among ranks compute what the whole one computes."""

import pytest
import torch

from lepton_engine.distributed import Rank
from lepton_engine.layers.linear import Linear, Parallel


def filled(parallel: Parallel, rank: Rank, stored: dict[str, torch.Tensor], transposed: bool) -> Linear:
    layer = Linear(12, [8, 4], bias=True, parallel=parallel, transposed=transposed, rank=rank)
    for name, slot in layer.slots(["q", "k"]).items():
        tensor = stored[name].t().contiguous() if transposed and tensor_is_matrix(stored[name]) else stored[name]
        assert slot.expected_shape() == tuple(tensor.shape)
        slot.fill(tensor)
    return layer


def tensor_is_matrix(tensor: torch.Tensor) -> bool:
    return tensor.dim() == 2


@pytest.fixture
def stored() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"q.weight": (8, 12), "q.bias": (8,), "k.weight": (4, 12), "k.bias": (4,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize("transposed", [False, True])
def test_column_parallel(stored: dict[str, torch.Tensor], transposed: bool) -> None:
    x = torch.randn(5, 12)
    whole = filled(Parallel.COLUMN, Rank(), stored, transposed)(x)
    expected = torch.cat([x @ stored[f"{n}.weight"].t() + stored[f"{n}.bias"] for n in "qk"], -1)
    torch.testing.assert_close(whole, expected)
    parts = [filled(Parallel.COLUMN, Rank(i, 2), stored, transposed)(x) for i in range(2)]
    # Each rank holds its share of q, then its share of k.
    torch.testing.assert_close(torch.cat([p[:, :4] for p in parts] + [p[:, 4:] for p in parts], -1), expected)


def test_row_parallel(stored: dict[str, torch.Tensor]) -> None:
    x = torch.randn(5, 12)
    expected = torch.cat([x @ stored[f"{n}.weight"].t() for n in "qk"], -1)
    total = torch.zeros(5, 12)
    for i in range(3):
        layer = Linear(12, [8, 4], bias=False, parallel=Parallel.ROW, rank=Rank(i, 3))
        for name, slot in layer.slots(["q", "k"]).items():
            assert slot.expected_shape() == tuple(stored[name].shape)
            slot.fill(stored[name])
        total += layer(x[:, i * 4 : i * 4 + 4])
    torch.testing.assert_close(total, expected)


def test_replicated_ignores_the_rank(stored: dict[str, torch.Tensor]) -> None:
    x = torch.randn(5, 12)
    alone, second = (filled(Parallel.REPLICATED, rank, stored, False)(x) for rank in (Rank(), Rank(1, 2)))
    assert torch.equal(alone, second)


def test_what_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="outputs: 4 does not divide among 3 ranks"):
        Linear(12, [9, 4], bias=False, parallel=Parallel.COLUMN, rank=Rank(0, 3))
