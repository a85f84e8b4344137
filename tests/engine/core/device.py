"""A stand-in for model and device that knows what every KV slot must hold."""

import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from lepton_engine.core.block_pool import NULL_BLOCK
from lepton_engine.core.events import TokenLogprobs
from lepton_engine.core.kv_layout import KVCacheLayout
from lepton_engine.core.plan import ScheduledSequence, StepPlan, StepResult
from lepton_engine.core.request import Request, Sequence

VOCABULARY = 4
EMPTY, NAN, GARBAGE = "never written", "not a number", "of a crashed step"
Cell = int | str


def extend(prefix: int, token: int) -> int:
    """The name of a prefix with one more token; hashes of integers are the same in every run."""
    return hash((prefix, token))


def root(request: Request) -> int:
    return zlib.crc32(f"{request.tenant}/{request.adapter}".encode())


def content(cell: Cell) -> int:
    """What a read of the cell gives, a number in any case."""
    return cell if isinstance(cell, int) else zlib.crc32(cell.encode())


def choose(seen: Iterable[tuple[int, ...]], request: Request, index: int, generated: int) -> int:
    """The model and the sampler: the next token is a function of all that is read, the seed and the index."""
    base = hash((*seen, request.seed, index))
    masked = request.masked_stop_ids if generated < request.params.min_tokens else ()
    return next(t for t in (hash((base, i)) % VOCABULARY for i in range(1000)) if t not in masked)


def read_from(position: int, window: int | None) -> int:
    """The first position that a query sees."""
    return 0 if window is None else max(0, position - window + 1)


class StepCrashed(Exception):
    """What a crashed step raises."""


@dataclass
class Fault:
    """What goes wrong in one step: it crashes on launch or on its result, or some samples are invalid."""

    crash: str = ""
    masked: set[int] = field(default_factory=set)
    nan: set[int] = field(default_factory=set)


@dataclass
class LaunchedStep:
    """A step on the device."""

    plan: StepPlan
    answer: StepResult | None

    def result(self) -> StepResult:
        if self.answer is None:
            raise StepCrashed
        return self.answer


class Device:
    """Each KV slot holds the name of the prefix that ends in the token written there; every read is checked."""

    def __init__(self, layout: KVCacheLayout, num_slots: int) -> None:
        self.layout = layout
        self.cells: list[list[list[Cell]]] = [
            [[EMPTY] * layout.block_size for _ in range(count)] for count in layout.num_blocks
        ]
        self.last_tokens = [-1] * num_slots
        self.sampled: defaultdict[Sequence, list[int]] = defaultdict(list)
        self.prefixes: dict[Sequence, list[int]] = {}
        self.doomed: set[str] = set()  # Requests that have read what a step wrote whose crash is not known yet.
        self.crash_unknown = False

    def tokens(self, sequence: Sequence) -> list[int]:
        """What the sequence truly consists of, tokens that the host does not know yet included."""
        return sequence.request.prompt + self.sampled[sequence]

    def names(self, sequence: Sequence) -> list[int]:
        """The name of the prefix at each position."""
        names = self.prefixes.setdefault(sequence, [])
        for token in self.tokens(sequence)[len(names) :]:
            names.append(extend(names[-1] if names else root(sequence.request), token))
        return names

    def supposed(self, entry: ScheduledSequence) -> tuple[list[int], list[int]]:
        """The tokens of an entry's sequence, those of its draft included, and the names of their prefixes."""
        tokens, names = self.tokens(entry.sequence), list(self.names(entry.sequence))
        for token in entry.draft:
            names.append(extend(names[-1], token))
        return [*tokens, *entry.draft], names

    def cell(self, sequence: Sequence, group: int, position: int) -> tuple[int, int]:
        block = sequence.blocks[group][position // self.layout.block_size]
        assert block != NULL_BLOCK, f"position {position} of a sequence has no block in group {group}"
        return block, position % self.layout.block_size

    def launch(self, plan: StepPlan, fault: Fault) -> LaunchedStep:
        nan_rows = {plan.samples[i].row for i in fault.nan}
        self._copy(plan)
        written: set[tuple[int, int, int]] = set()
        for row, entry in enumerate(plan.scheduled):
            self._write(entry, GARBAGE if fault.crash else NAN if row in nan_rows else None, written)
        self.crash_unknown = self.crash_unknown or bool(fault.crash)
        spoiled = {row for row, entry in enumerate(plan.scheduled) if not self._read(entry)}
        if fault.crash == "launch":
            raise StepCrashed
        tokens: list[int] = []
        invalid: list[bool] = []
        generated = {sample.sequence: len(self.sampled[sample.sequence]) for sample in plan.samples}
        for i, sample in enumerate(plan.samples):
            sequence, entry = sample.sequence, plan.scheduled[sample.row]
            # Siblings that this step has forked sample from the row of the sequence that computed the prompt.
            last = entry.start + entry.num_tokens - 1 - len(entry.draft) + sample.offset
            seen = self._seen(entry.sequence, last)
            token = choose(seen, sequence.request, sequence.index, generated[sequence] + sample.offset)
            if len(self.sampled[sequence]) == generated[sequence] + sample.offset and (
                sample.offset == 0 or tokens[-1] == entry.draft[sample.offset - 1]
            ):
                self.sampled[sequence].append(token)
                self.last_tokens[sequence.slot] = token
            tokens.append(token)
            invalid.append(i in fault.masked or sample.row in spoiled)
        scores = {row: s for row, entry in enumerate(plan.scheduled) if (s := self._score(entry)) is not None}
        none: list[TokenLogprobs | None] = [None] * len(tokens)
        return LaunchedStep(plan, None if fault.crash else StepResult(tokens, invalid, none, scores))

    def _copy(self, plan: StepPlan) -> None:
        """In order and all at once must be the same, so that any runner is right."""
        before = [list(self.cells[copy.group][copy.source]) for copy in plan.copies]
        for copy, content in zip(plan.copies, before, strict=True):
            assert self.cells[copy.group][copy.source] == content, "a copy reads what another copy has written"
            self.cells[copy.group][copy.target][:] = content
        targets = [(copy.group, copy.target) for copy in plan.copies]
        assert len(set(targets)) == len(targets)

    def _write(self, entry: ScheduledSequence, spoil: Cell | None, written: set[tuple[int, int, int]]) -> None:
        sequence, end = entry.sequence, entry.start + entry.num_tokens
        truth, names = self.supposed(entry)
        known = [*sequence.token_ids, *entry.draft][entry.start : end]
        if len(known) < entry.num_tokens:
            assert len(known) == entry.num_tokens - 1, "more than one token is still on the device"
            known = [*known, self.last_tokens[sequence.slot]]
        assert known == truth[entry.start : end], "the batch holds other tokens than the sequence"
        for group in range(len(self.layout.groups)):
            for position in range(entry.start, end):
                place = (group, *self.cell(sequence, group, position))
                assert place not in written, "two sequences write to one slot"
                written.add(place)
                self.cells[group][place[1]][place[2]] = names[position] if spoil is None else spoil

    def _read(self, entry: ScheduledSequence) -> bool:
        """Check all that the entry's queries see; False when a broken computation is among it."""
        sequence, names, sound = entry.sequence, self.supposed(entry)[1], True
        for group, kind in enumerate(self.layout.groups):
            for position in range(read_from(entry.start, kind.window), entry.start + entry.num_tokens):
                block, offset = self.cell(sequence, group, position)
                found = self.cells[group][block][offset]
                if found == NAN:
                    sound = False
                elif found == GARBAGE and self.crash_unknown:
                    self.doomed.add(sequence.request.key)
                else:
                    assert found == names[position], f"group {group} holds {found!r} at position {position}"
        if not sound:
            for group in range(len(self.layout.groups)):
                for position in range(entry.start, entry.start + entry.num_tokens):
                    block, offset = self.cell(sequence, group, position)
                    self.cells[group][block][offset] = NAN
        return sound

    def _seen(self, sequence: Sequence, position: int) -> list[tuple[int, ...]]:
        seen: list[tuple[int, ...]] = []
        for group, kind in enumerate(self.layout.groups):
            places = [self.cell(sequence, group, p) for p in range(read_from(position, kind.window), position + 1)]
            seen.append(tuple(content(self.cells[group][block][offset]) for block, offset in places))
        return seen

    def _score(self, entry: ScheduledSequence) -> tuple[int, list[TokenLogprobs]] | None:
        last = min(entry.start + entry.num_tokens, entry.sequence.num_prompt - 1)
        if not entry.scores_prompt or last <= entry.start:
            return None
        names = self.names(entry.sequence)
        return entry.start + 1, [TokenLogprobs(float(names[p]), 1, [], []) for p in range(entry.start + 1, last + 1)]
