"""Decode steps as recorded graphs: one replay instead of hundreds of launches.

A graph is recorded for each of a few batch sizes, its buckets; a batch is padded to the next one. Padding rows are
sequences of one token whose key and value go to the null block, which nobody reads. Only the forward pass is recorded:
sampling is a launch of its own, so that masks can be computed while the pass runs.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from lepton_engine.core.plan import StepPlan
from lepton_engine.layers.batch import BatchContext, KVGroupBatch
from lepton_engine.models.base import CausalLM
from lepton_engine.runtime.batch import HostBatch
from lepton_engine.runtime.transfer import to_device

_SMALL_BUCKETS = (1, 2, 4, 8)
_STEPS = ((8, 64), (16, 128), (32, 256), (64, 512))  # buckets this far apart, up to there


class StepGraph(Protocol):
    """Work on fixed tensors, recorded once and repeated."""

    def capture(self, work: Callable[[], None]) -> None:
        """Record what `work` does to its tensors."""

    def replay(self) -> None:
        """Do it again, with what the tensors hold now."""


class DeviceGraph:
    """A CUDA graph.

    Args:
        pool: the memory that graphs share, from `torch.cuda.graph_pool_handle()`.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._graph = torch.cuda.CUDAGraph()

    def capture(self, work: Callable[[], None]) -> None:
        """See `StepGraph.capture`; the first run compiles kernels and makes handles, which cannot be recorded."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        with torch.cuda.graph(self._graph, pool=self._pool):
            work()

    def replay(self) -> None:
        """See `StepGraph.replay`."""
        self._graph.replay()


class CallGraph:
    """Stands for a graph where there are none: calls the work again."""

    def __init__(self) -> None:
        self._work: Callable[[], None] | None = None

    def capture(self, work: Callable[[], None]) -> None:
        """See `StepGraph.capture`."""
        work()
        self._work = work

    def replay(self) -> None:
        """See `StepGraph.replay`."""
        if self._work is None:
            raise RuntimeError("nothing was captured")
        self._work()


def bucket_sizes(max_num_seqs: int) -> tuple[int, ...]:
    """The batch sizes that are recorded, smallest first; the last is max_num_seqs itself."""
    sizes = [size for size in _SMALL_BUCKETS if size < max_num_seqs]
    size = _SMALL_BUCKETS[-1]
    for step, end in _STEPS:
        while size < end:
            size += step
            if size < max_num_seqs:
                sizes.append(size)
    while size + 128 < max_num_seqs:
        size += 128
        sizes.append(size)
    return (*sizes, max_num_seqs)


class DecodeGraphs:
    """Graphs of a model's decode steps over the KV cache that it is bound to.

    Args:
        last_tokens: int64 [slots] on the device, the runner's; sampled tokens are taken from there.
        num_groups, block_size, max_tokens: of the KV cache; the longest sequence has max_tokens.
        new_graph: makes an empty graph. None makes CUDA graphs in one pool.
    """

    def __init__(
        self,
        model: CausalLM,
        last_tokens: torch.Tensor,
        *,
        num_groups: int,
        block_size: int,
        max_tokens: int,
        max_num_seqs: int,
        new_graph: Callable[[], StepGraph] | None = None,
    ) -> None:
        self._model = model
        self._last_tokens = last_tokens
        self._block_size = block_size
        self._max_tokens = max_tokens
        self._device = last_tokens.device
        self._sizes = bucket_sizes(max_num_seqs)
        self._graphs: dict[int, StepGraph] = {}
        if new_graph is None:
            pool = torch.cuda.graph_pool_handle()
            new_graph = lambda: DeviceGraph(pool)  # noqa: E731
        self._new_graph = new_graph
        # What the host sends in one copy each step, row by row: token ids, the slots that hold ids which are still on
        # the device (or -1), positions, lengths, slots of the new keys and values by group.
        self._numbers = torch.zeros((4 + num_groups) * max_num_seqs, dtype=torch.int64, device=self._device)
        blocks = -(-max_tokens // block_size)
        self._tables = [
            torch.zeros(max_num_seqs, blocks, dtype=torch.int32, device=self._device) for _ in range(num_groups)
        ]
        self._sent: list[np.ndarray | None] = [None] * num_groups
        self._seq_lens = torch.ones(max_num_seqs, dtype=torch.int32, device=self._device)
        self._query_start = torch.arange(max_num_seqs + 1, dtype=torch.int32, device=self._device)
        self._hidden: torch.Tensor | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """The buckets, smallest first."""
        return self._sizes

    @torch.inference_mode()
    def capture(self, sizes: Sequence[int] | None = None) -> None:
        """Record the buckets (or some of them), the largest first, so that the smaller ones reuse its memory."""
        for size in sorted(sizes if sizes is not None else self._sizes, reverse=True):
            self._numbers_of(size).copy_(torch.tensor([0, -1, 0, 1] + [0] * len(self._tables))[:, None])
            graph = self._new_graph()
            graph.capture(lambda size=size: self._step(size))  # type: ignore[misc]
            self._graphs[size] = graph

    def _numbers_of(self, size: int) -> torch.Tensor:
        """The numbers of a bucket, [rows, size], contiguous at the start of the buffer."""
        rows = 4 + len(self._tables)
        return self._numbers[: rows * size].view(rows, size)

    def _step(self, size: int) -> None:
        numbers = self._numbers_of(size)
        slots = numbers[1]
        ids = torch.where(slots >= 0, self._last_tokens[slots.clamp_min(0)], numbers[0])
        seq_lens = self._seq_lens[:size]
        seq_lens.copy_(numbers[3])
        context = BatchContext(
            positions=numbers[2],
            query_start=self._query_start[: size + 1],
            seq_lens=seq_lens,
            query_lens=(1,) * size,
            max_seq_len=self._max_tokens,
            groups=tuple(KVGroupBatch(table[:size], numbers[4 + index]) for index, table in enumerate(self._tables)),
        )
        hidden = self._model(ids, context)
        if self._hidden is None:
            self._hidden = torch.empty(self._sizes[-1], *hidden.shape[1:], dtype=hidden.dtype, device=hidden.device)
        self._hidden[:size].copy_(hidden)

    def takes(self, plan: StepPlan) -> bool:
        """Whether a recorded graph computes the plan: one new token a sequence, and none whose prompt is scored."""
        return 0 < len(plan.scheduled) <= self._sizes[-1] and all(
            entry.num_tokens == 1 and not entry.scores_prompt for entry in plan.scheduled
        )

    @torch.inference_mode()
    def run(self, batch: HostBatch) -> torch.Tensor:
        """Hidden states of the batch, [num_seqs, hidden_size]; they hold until the next call.

        Args:
            batch: of a plan that `takes` accepts.
        """
        count = len(batch.seq_lens)
        size = next(size for size in self._sizes if size >= count)
        numbers = np.zeros((4 + len(self._tables), size), dtype=np.int64)
        numbers[0, :count] = batch.input_ids
        numbers[1] = -1
        numbers[1, batch.pending_rows] = batch.pending_slots
        numbers[2, :count] = batch.positions
        numbers[3] = 1
        numbers[3, :count] = batch.seq_lens
        for index, slots in enumerate(batch.slot_mappings):
            numbers[4 + index, :count] = slots
        self._numbers_of(size).copy_(to_device(torch.from_numpy(numbers), self._device), non_blocking=True)
        for index, table in enumerate(batch.block_tables):
            self._send_table(index, table, size)
        self._graphs[size].replay()
        if self._hidden is None:
            raise RuntimeError("nothing was captured")
        return self._hidden[:count]

    def _send_table(self, index: int, table: np.ndarray, size: int) -> None:
        """Send a group's block table, padded with the null block, unless the device has it: most steps add no block."""
        padded = np.zeros((size, table.shape[1]), dtype=np.int32)
        padded[: len(table)] = table
        sent = self._sent[index]
        if sent is None or not np.array_equal(sent, padded):
            target = self._tables[index][:size, : padded.shape[1]]
            target.copy_(to_device(torch.from_numpy(padded), self._device), non_blocking=True)
            self._sent[index] = padded


def graph_bytes(graphs: DecodeGraphs, device: torch.device) -> int:
    """Device memory that all buckets of `graphs` will take, measured by recording the two largest.

    `graphs` is of a model over a small KV cache; it is of no use afterwards.
    """
    sizes = graphs.sizes
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    left = [torch.cuda.mem_get_info(device)[0]]
    for size in sizes[-1:], sizes[-2:-1]:
        graphs.capture(size)
        torch.cuda.synchronize(device)
        left.append(torch.cuda.mem_get_info(device)[0])
    return estimate(left, len(sizes))


def estimate(left: Sequence[int], count: int) -> int:
    """Bytes of `count` graphs.

    Args:
        left: free bytes before any, after the largest, and after the next smaller one, whose share the rest are taken
            to need each.
    """
    before, first, second = left
    return max(0, before - first) + max(0, first - second) * max(0, count - 1)
