"""How checkpoints pack small integers into 32-bit words, and the orders of columns that they know."""

import torch

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight neighbouring outputs each nibble of a word holds, lowest bits first, in AWQ's "gemm" layout."""


def unpack_words(words: torch.Tensor, bits: int, dim: int) -> torch.Tensor:
    """Words of 32 bits as unsigned values, uint8, 32 / bits times as many along dim; lowest bits first.

    Args:
        words: int32, two dimensions. bits: 4 or 8.
    """
    octets = _laid_out(words.transpose(dim, -1)).view(torch.uint8)  # Little-endian: the lowest bits come first.
    if bits == 4:
        octets = torch.stack((octets & 0xF, octets >> 4), dim=-1).flatten(-2)
    return octets.transpose(dim, -1)


def pack_words(values: torch.Tensor, bits: int, dim: int) -> torch.Tensor:
    """The inverse of `unpack_words`: uint8 values along dim, zeros after the last, as int32 words."""
    moved = values.transpose(dim, -1)
    moved = torch.nn.functional.pad(moved, (0, -moved.shape[-1] % (32 // bits)))
    if bits == 4:
        moved = moved[..., 0::2] | (moved[..., 1::2] << 4)
    return _laid_out(moved).view(torch.int32).transpose(dim, -1).contiguous()


def _laid_out(x: torch.Tensor) -> torch.Tensor:
    """A contiguous copy. `contiguous` leaves strides of dimensions of one element, which views of other sizes mind."""
    return x.clone(memory_format=torch.contiguous_format)


def from_awq_order(values: torch.Tensor) -> torch.Tensor:
    """Values [rows, out] as they lie in AWQ's words, in the order of the outputs."""
    place = sorted(range(8), key=AWQ_ORDER.__getitem__)
    return values.reshape(values.shape[0], -1, 8)[..., place].flatten(1)


def group_order(groups: torch.Tensor, group_size: int) -> torch.Tensor | None:
    """The order of the columns that makes the members of each group neighbours, from the group of each column.

    Args:
        groups: integer [in].

    Returns:
        int64 [in], or None where they are neighbours already.

    Raises:
        ValueError: a group has not group_size members.
    """
    expected = torch.arange(len(groups), device=groups.device) // group_size
    order = torch.argsort(groups.long(), stable=True)
    if not torch.equal(groups.long()[order], expected):
        raise ValueError(f"it does not put {group_size} inputs into each of {len(groups) // group_size} groups")
    return None if torch.equal(groups.long(), expected) else order
