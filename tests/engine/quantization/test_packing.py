"""Words of packed integers, value by value, and the order of groups."""

import pytest
import torch

from lepton_engine.quantization.packing import AWQ_ORDER, from_awq_order, group_order, pack_words, unpack_words


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("shape", [(16, 8), (8, 1), (1, 8), (24, 3), (5, 7), (1, 1)])
def test_words(bits: int, dim: int, shape: tuple[int, int]) -> None:
    values = torch.randint(0, 1 << bits, shape, dtype=torch.uint8)
    words = pack_words(values, bits, dim)
    per_word = 32 // bits
    assert words.shape[dim] == -(-shape[dim] // per_word)
    for index in torch.cartesian_prod(torch.arange(shape[0]), torch.arange(shape[1])).tolist():
        at = list(index)
        at[dim] //= per_word
        word = int(words[tuple(at)]) & 0xFFFFFFFF
        assert (word >> (bits * (index[dim] % per_word))) & ((1 << bits) - 1) == int(values[tuple(index)])
    assert torch.equal(unpack_words(words, bits, dim).narrow(dim, 0, shape[dim]), values)


def test_awq_order_is_undone() -> None:
    wanted = torch.arange(32).view(2, 16)
    stored = torch.cat([wanted[:, at : at + 8][:, list(AWQ_ORDER)] for at in (0, 8)], -1)
    assert torch.equal(from_awq_order(stored), wanted)


def test_group_order() -> None:
    assert group_order(torch.tensor([0, 0, 1, 1, 2, 2]), 2) is None
    order = group_order(torch.tensor([2, 0, 1, 0, 2, 1]), 2)
    assert order is not None
    assert order.tolist() == [1, 3, 2, 5, 0, 4]
    with pytest.raises(ValueError, match="2 inputs into each of 3 groups"):
        group_order(torch.tensor([0, 0, 0, 1, 2, 2]), 2)
