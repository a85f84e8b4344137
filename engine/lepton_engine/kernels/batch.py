"""What a forward pass needs to know of its batch: where each token stands and where its keys and values go."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class KVGroupBatch:
    """The part of the batch that belongs to one KV cache group (full attention, or one window size).

    Attributes:
        block_table: int32 [num_seqs, max_blocks], physical block of each logical block. Blocks that a window
            has left behind hold 0; attention never reads them.
        slot_mapping: int64 [num_tokens], block * block_size + offset at which a token's key and value are stored.
    """

    block_table: torch.Tensor
    slot_mapping: torch.Tensor


@dataclass(frozen=True)
class BatchContext:
    """A flat batch of new tokens of several sequences; prefill chunks and decodes mixed.

    Sequence i owns the tokens query_start[i] to query_start[i + 1]; they are its last ones, so the first of them
    stands at position seq_lens[i] - query_len[i].

    Attributes:
        positions: int64 [num_tokens], position of each token in its sequence.
        query_start: int32 [num_seqs + 1].
        seq_lens: int32 [num_seqs], tokens with keys and values, those of this step included.
        query_lens: the new tokens per sequence, on the host. max_seq_len: the largest of seq_lens, on the host.
        groups: one entry per KV cache group, in the order of `KVCacheLayout.groups`.
    """

    positions: torch.Tensor
    query_start: torch.Tensor
    seq_lens: torch.Tensor
    query_lens: tuple[int, ...]
    max_seq_len: int
    groups: tuple[KVGroupBatch, ...]
