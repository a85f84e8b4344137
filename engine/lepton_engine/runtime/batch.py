"""A step's plan as tensors: token ids, positions, block tables and where keys and values go."""

from dataclasses import dataclass

import numpy as np
import torch

from lepton_engine.core.plan import StepPlan
from lepton_engine.layers.batch import BatchContext, KVGroupBatch
from lepton_engine.runtime.transfer import to_device


@dataclass(frozen=True)
class HostBatch:
    """The input of a forward pass on the host.

    Attributes:
        input_ids: int64 [num_tokens]; tokens that are still on the device stand as 0.
        pending_rows, pending_slots: int64, where those stand and the slots that hold them.
        positions: int64 [num_tokens]. query_start: int64 [num_seqs + 1]. seq_lens, query_lens: int64 [num_seqs].
        block_tables: of each KV group, int64 [num_seqs, blocks of the longest], padded with 0.
        slot_mappings: of each KV group, int64 [num_tokens].
        sample_rows: int64 [num_samples], the row of input_ids whose logits each sample takes.
    """

    input_ids: np.ndarray
    pending_rows: np.ndarray
    pending_slots: np.ndarray
    positions: np.ndarray
    query_start: np.ndarray
    seq_lens: np.ndarray
    query_lens: np.ndarray
    block_tables: tuple[np.ndarray, ...]
    slot_mappings: tuple[np.ndarray, ...]
    sample_rows: np.ndarray


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


def lay_out(plan: StepPlan, num_groups: int, block_size: int) -> HostBatch:
    """Lay the plan's tokens out flat, in its order."""
    token_ids: list[int] = []
    pending_rows: list[int] = []
    pending_slots: list[int] = []
    for entry in plan.scheduled:
        sequence, end = entry.sequence, entry.start + entry.num_tokens
        known = sequence.token_ids[entry.start : end]
        if entry.draft:
            confirmed = len(sequence.token_ids)
            known += entry.draft[max(0, entry.start - confirmed) : end - confirmed]
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
    block_tables, slot_mappings = [], []
    for group in range(num_groups):
        tables = [entry.sequence.blocks[group] for entry in plan.scheduled]
        block_table = np.zeros((len(tables), max(map(len, tables))), dtype=np.int64)
        for row, table in enumerate(tables):
            block_table[row, : len(table)] = table
        block_tables.append(block_table)
        slot_mappings.append(block_table[owners, positions // block_size] * block_size + positions % block_size)
    # Each sample stands before the end of its entry by as many tokens of the draft as follow it.
    ends = query_start[1:] - 1 - np.array([len(entry.draft) for entry in plan.scheduled], dtype=np.int64)
    return HostBatch(
        input_ids=np.array(token_ids, dtype=np.int64),
        pending_rows=np.array(pending_rows, dtype=np.int64),
        pending_slots=np.array(pending_slots, dtype=np.int64),
        positions=positions,
        query_start=query_start,
        seq_lens=starts + lengths,
        query_lens=lengths,
        block_tables=tuple(block_tables),
        slot_mappings=tuple(slot_mappings),
        sample_rows=ends[[sample.row for sample in plan.samples]]
        + np.array([sample.offset for sample in plan.samples], dtype=np.int64),
    )


def to_tensors(host: HostBatch, device: torch.device) -> Batch:
    """The batch on a device. Nothing here waits for it."""

    def send(array: np.ndarray, dtype: type[np.integer]) -> torch.Tensor:
        # numpy converts small arrays in a tenth of torch's time.
        return to_device(torch.from_numpy(array.astype(dtype, copy=False)), device)

    pending = len(host.pending_rows) > 0
    context = BatchContext(
        positions=send(host.positions, np.int64),
        query_start=send(host.query_start, np.int32),
        seq_lens=send(host.seq_lens, np.int32),
        query_lens=tuple(host.query_lens.tolist()),
        max_seq_len=int(host.seq_lens.max()),
        groups=tuple(
            KVGroupBatch(send(table, np.int32), send(slots, np.int64))
            for table, slots in zip(host.block_tables, host.slot_mappings, strict=True)
        ),
    )
    return Batch(
        input_ids=send(host.input_ids, np.int64),
        pending_rows=send(host.pending_rows, np.int64) if pending else None,
        pending_slots=send(host.pending_slots, np.int64) if pending else None,
        context=context,
        sample_rows=send(host.sample_rows, np.int64),
    )


def build_batch(plan: StepPlan, num_groups: int, block_size: int, device: torch.device) -> Batch:
    """A plan's batch on a device. Nothing here waits for it."""
    return to_tensors(lay_out(plan, num_groups, block_size), device)
