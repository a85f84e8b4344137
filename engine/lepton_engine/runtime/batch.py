"""A step's plan as tensors: token ids, positions, block tables and where keys and values go."""

from dataclasses import dataclass

import numpy as np
import torch

from lepton_engine.core.plan import StepPlan
from lepton_engine.layers.batch import BatchContext, KVGroupBatch


@dataclass(frozen=True)
class Batch:
    """The input of a forward pass.

    Attributes:
        input_ids: int64 [num_tokens]; tokens that are still on the device stand as 0.
        pending_rows, pending_slots: int64, where those stand and the slots that hold them; None without any.
        context: positions, lengths, block tables.
        sample_rows: int64 [num_samples], the row of input_ids whose logits each sample takes.
    """

    input_ids: torch.Tensor
    pending_rows: torch.Tensor | None
    pending_slots: torch.Tensor | None
    context: BatchContext
    sample_rows: torch.Tensor


def build_batch(plan: StepPlan, num_groups: int, block_size: int, device: torch.device) -> Batch:
    """Lay the plan's tokens out flat, in its order. Nothing here waits for the device."""
    token_ids: list[int] = []
    pending_rows: list[int] = []
    pending_slots: list[int] = []
    for entry in plan.scheduled:
        sequence, end = entry.sequence, entry.start + entry.num_tokens
        known = sequence.token_ids[entry.start : end]
        token_ids += known
        if len(known) < entry.num_tokens:
            pending_rows.append(len(token_ids))
            pending_slots.append(sequence.slot)
            token_ids.append(0)
    starts = np.array([entry.start for entry in plan.scheduled], dtype=np.int64)
    lengths = np.array([entry.num_tokens for entry in plan.scheduled], dtype=np.int64)
    query_start = np.concatenate(([0], np.cumsum(lengths)))
    owners = np.repeat(np.arange(len(lengths)), lengths)
    positions = np.arange(plan.num_tokens) - (query_start[:-1] - starts)[owners]
    seq_lens = starts + lengths

    def to_device(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        tensor = torch.from_numpy(array).to(dtype)
        return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)

    groups = []
    for group in range(num_groups):
        tables = [entry.sequence.blocks[group] for entry in plan.scheduled]
        block_table = np.zeros((len(tables), max(map(len, tables))), dtype=np.int64)
        for row, table in enumerate(tables):
            block_table[row, : len(table)] = table
        slots = block_table[owners, positions // block_size] * block_size + positions % block_size
        groups.append(KVGroupBatch(to_device(block_table, torch.int32), to_device(slots, torch.int64)))
    context = BatchContext(
        positions=to_device(positions, torch.int64),
        query_start=to_device(query_start, torch.int32),
        seq_lens=to_device(seq_lens, torch.int32),
        query_lens=tuple(lengths.tolist()),
        max_seq_len=int(seq_lens.max()),
        groups=tuple(groups),
    )
    ends = query_start[1:] - 1
    return Batch(
        input_ids=to_device(np.array(token_ids, dtype=np.int64), torch.int64),
        pending_rows=to_device(np.array(pending_rows), torch.int64) if pending_rows else None,
        pending_slots=to_device(np.array(pending_slots), torch.int64) if pending_slots else None,
        context=context,
        sample_rows=to_device(ends[[sample.row for sample in plan.samples]], torch.int64),
    )
