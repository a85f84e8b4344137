"""Which tokens the grammars of a step's sequences allow, found out while the forward pass runs."""

from __future__ import annotations  # llguidance's classes are named in annotations only: it may be absent

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from lepton_engine.core.plan import Sample, StepPlan
from lepton_engine.grammar.matcher import Matcher
from lepton_engine.runtime.threads import usable_cores
from lepton_engine.runtime.transfer import to_device

if TYPE_CHECKING:
    from llguidance import LLExecutor

MAX_THREADS = 8
CHUNK_TOKENS = 1 << 22


@dataclass(frozen=True)
class AllowedTokens:
    """Masks of some rows of a batch.

    Attributes:
        rows: of the logits. bits: int32 [len(rows), words], bit i of the words of a row is token i.
    """

    rows: list[int]
    bits: np.ndarray

    def apply(self, logits: torch.Tensor) -> None:
        """Set the logits [R, V] of tokens that are not allowed to -inf, in place."""
        size = logits.shape[1]
        if logits.device.type == "cpu":
            unpacked = np.unpackbits(self.bits.view(np.uint8), axis=1, count=size, bitorder="little")
            forbidden = torch.from_numpy(unpacked).view(torch.bool).logical_not_()
            if self.rows == list(range(len(logits))):
                logits.masked_fill_(forbidden, -torch.inf)
            else:
                for row, own in zip(self.rows, forbidden, strict=True):
                    logits[row].masked_fill_(own, -torch.inf)
        else:
            self.apply_on_device(logits)

    def apply_on_device(self, logits: torch.Tensor, chunk_tokens: int = CHUNK_TOKENS) -> None:
        """See `apply`, by the device's own operations, without waiting for it.

        Args:
            chunk_tokens: bits that are unpacked at once, each to an int32.
        """
        size = logits.shape[1]
        bits = to_device(torch.from_numpy(self.bits), logits.device)
        rows = to_device(torch.tensor(self.rows), logits.device)
        shifts = torch.arange(32, dtype=torch.int32, device=logits.device)
        chunk = max(1, chunk_tokens // size)
        for start in range(0, len(self.rows), chunk):
            own = rows[start : start + chunk]
            allowed = ((bits[start : start + chunk, :, None] >> shifts) & 1).flatten(1)
            allowed = torch.nn.functional.pad(allowed, (0, max(0, size - allowed.shape[1])))[:, :size]
            logits[own] = logits[own].masked_fill_(allowed == 0, -torch.inf)


class GrammarMasks:
    """Computes the masks of steps in a thread beside the one that launches them.

    llguidance lets other threads of Python run meanwhile, as the forward pass does: a native call on the CPU, launches
    on CUDA. The masks of several sequences are computed side by side.
    """

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._workers: LLExecutor | None = None

    def begin(self, plan: StepPlan) -> Future[AllowedTokens] | None:
        """Start on a step's masks; None when none of its samples has a grammar. Until it is done matchers stay as they
        are."""
        if not any(sample.sequence.matcher is not None for sample in plan.samples):
            return None
        if self._thread is None:
            from llguidance import LLExecutor

            self._thread = ThreadPoolExecutor(1, thread_name_prefix="lepton-grammar-masks")
            self._workers = LLExecutor(max(1, min(MAX_THREADS, usable_cores() // 2)))
        return self._thread.submit(self._masks, plan)

    def _masks(self, plan: StepPlan) -> AllowedTokens:
        constrained = list(_constrained(plan))
        rows = [row for row, _, _ in constrained]
        words = constrained[0][1].grammar.words
        bits = np.zeros((len(rows), words), dtype=np.int32)
        drafted = [bool(plan.scheduled[sample.row].draft) for _, _, sample in constrained]
        plain = [i for i in range(len(rows)) if not drafted[i]]
        if plain and self._workers is not None:
            self._workers.unsafe_compute_mask_ptr(
                [(constrained[i][1].native, i) for i in plain], bits.ctypes.data, 4 * words, len(bits)
            )
            for i in plain:
                constrained[i][1].tidy(bits[i])
        for i, count in _runs(constrained, drafted):
            _, matcher, sample = constrained[i]
            draft = plan.scheduled[sample.row].draft
            # A draft model samples behind its whole draft only; the rows of a verified draft stand behind each token.
            if count == len(draft) + 1:
                matcher.fill(bits[i : i + count], draft)
            else:
                behind = np.zeros((sample.offset + 1, words), dtype=np.int32)
                matcher.fill(behind, draft[: sample.offset])
                bits[i] = behind[-1]
        return AllowedTokens(rows, bits)


def _constrained(plan: StepPlan) -> Iterator[tuple[int, Matcher, Sample]]:
    for row, sample in enumerate(plan.samples):
        if isinstance(sample.sequence.matcher, Matcher):
            yield row, sample.sequence.matcher, sample


def _runs(constrained: list[tuple[int, Matcher, Sample]], drafted: list[bool]) -> Iterable[tuple[int, int]]:
    """Where the samples of each sequence with a draft begin, and how many they are."""
    i = 0
    while i < len(constrained):
        end = i + 1
        while end < len(constrained) and constrained[end][1] is constrained[i][1]:
            end += 1
        if drafted[i]:
            yield i, end - i
        i = end
