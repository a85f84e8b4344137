"""A smaller model that is run ahead: it samples as the request would, with the very random numbers of the request.

It has a KV cache of its own, so that what the scheduler does to the sequences (prefix hits, preemption, forks) does not
concern it: of each sequence it keeps a shadow, which catches its computed tokens up to the known ones as sequences in
the scheduler do, and takes back what was computed for drafts that did not come true.
"""

from dataclasses import dataclass, field

from lepton_engine.core.kv_cache import KVCacheManager
from lepton_engine.core.plan import Sample, ScheduledSequence, StepPlan
from lepton_engine.core.request import Sequence, SequenceState
from lepton_engine.interfaces import StepRunner


@dataclass
class _Draft:
    """A shadow whose draft grows."""

    shadow: Sequence
    limit: int
    tokens: list[int] = field(default_factory=list)
    going: bool = True

    def take(self, token: int, invalid: bool) -> None:
        """Add a sampled token; behind an end nothing is worth guessing."""
        if not invalid:
            self.tokens.append(token)
        self.going = not invalid and len(self.tokens) < self.limit and token not in self.shadow.request.stop_token_ids


class DraftModel:
    """Proposes what a smaller model would sample.

    Args:
        runner: of the smaller model. cache: the bookkeeping of its KV cache, in one group without a window, so that
            nothing that a shadow may come back to is given away.
        max_num_seqs: shadows at once. max_num_batched_tokens: tokens a forward pass.
    """

    def __init__(
        self, runner: StepRunner, cache: KVCacheManager, *, max_num_seqs: int, max_num_batched_tokens: int
    ) -> None:
        self._runner = runner
        self._cache = cache
        self._budget = max_num_batched_tokens
        self._slots = list(range(max_num_seqs))
        self._shadows: dict[Sequence, Sequence] = {}

    def propose(self, wanted: list[tuple[Sequence, int]]) -> list[list[int]]:
        """See `Proposer.propose`. A long prompt is caught up with over several calls; until then it gets no draft."""
        self._drop_finished()
        drafts = [self._follow(sequence, limit) for sequence, limit in wanted]
        self._catch_up([draft for draft in drafts if draft is not None])
        while growing := [draft for draft in drafts if draft is not None and draft.tokens and draft.going]:
            self._grow(growing[: self._budget])
        for draft in drafts:
            if draft is not None:
                draft.shadow.draft = tuple(draft.tokens)
        return [[] if draft is None else draft.tokens for draft in drafts]

    def problems(self) -> list[str]:
        """What is inconsistent in the draft model's KV cache; empty when sound."""
        return self._cache.problems(self._shadows.values())

    def _drop_finished(self) -> None:
        for sequence in [s for s in self._shadows if s.state is SequenceState.FINISHED]:
            self._drop(sequence)

    def _drop(self, sequence: Sequence) -> None:
        shadow = self._shadows.pop(sequence)
        self._cache.release(shadow)
        self._slots.append(shadow.slot)

    def _follow(self, sequence: Sequence, limit: int) -> _Draft | None:
        """A draft to be made behind the sequence's tokens; None where there is no room for it."""
        if len(sequence.token_ids) + limit > self._cache.layout.max_tokens:
            return None
        shadow = self._shadows.get(sequence)
        if shadow is None:
            if not self._make_room():
                return None
            shadow = Sequence(sequence.request, sequence.index, [], SequenceState.RUNNING, num_pending=1)
            shadow.matcher = sequence.matcher  # Masks behind a draft leave it where it is.
            shadow.slot = self._slots.pop()
            self._cache.adopt(shadow, 0)
            self._shadows[sequence] = shadow
        confirmed = len(shadow.token_ids)
        shadow.token_ids += sequence.token_ids[confirmed:]
        news = shadow.token_ids[confirmed:]
        right = next((i for i, pair in enumerate(zip(shadow.draft, news, strict=False)) if pair[0] != pair[1]), None)
        right = min(len(shadow.draft), len(news)) if right is None else right
        shadow.draft = ()
        # The last token is computed in any case, for its logits.
        self._cache.truncate(shadow, min(shadow.num_computed, confirmed + right, len(shadow.token_ids) - 1))
        return _Draft(shadow, limit)

    def _make_room(self) -> bool:
        """A free slot, if need be that of a sequence which does not run now."""
        if not self._slots:
            idle = next((s for s in self._shadows if s.state is not SequenceState.RUNNING), None)
            if idle is not None:
                self._drop(idle)
        return bool(self._slots)

    def _catch_up(self, drafts: list[_Draft]) -> None:
        plan, served = StepPlan(), []
        for draft in drafts:
            shadow = draft.shadow
            remaining = len(shadow.token_ids) - shadow.num_computed
            count = min(remaining, self._budget - plan.num_tokens)
            if count and self._cache.allocate(shadow, count) is not None:
                self._schedule(plan, draft, count)
                if count == remaining:
                    plan.samples.append(Sample(len(plan.scheduled) - 1, shadow))
                    served.append(draft)
        self._run(plan, served)

    def _grow(self, drafts: list[_Draft]) -> None:
        plan, served = StepPlan(), []
        for draft in drafts:
            if self._cache.allocate(draft.shadow, 1) is None:
                draft.going = False
                continue
            self._schedule(plan, draft, 1)
            plan.samples.append(Sample(len(plan.scheduled) - 1, draft.shadow, len(draft.tokens)))
            served.append(draft)
        self._run(plan, served)

    def _schedule(self, plan: StepPlan, draft: _Draft, count: int) -> None:
        shadow = draft.shadow
        plan.scheduled.append(
            ScheduledSequence(shadow, shadow.num_computed, count, draft=tuple(draft.tokens)),
        )
        plan.num_tokens += count
        shadow.num_computed += count

    def _run(self, plan: StepPlan, served: list[_Draft]) -> None:
        if not plan.scheduled:
            return
        result = self._runner.launch(plan).result()
        for draft, token, invalid in zip(served, result.token_ids, result.invalid, strict=True):
            draft.take(token, invalid)
