"""Which tokens each step computes.

One rule and no phases: every running sequence catches its computed tokens up to its known ones, within a budget of
tokens a step, so that chunked prefill, decode, prefix hits and speculation are one thing: a draft is tokens that are
known but unconfirmed, and what was computed for those that do not come true is taken back. Sequences are served in the
order of priority, then of how little their tenant was served, then of arrival; decodes never wait for prefills, and
who lacks a block takes it from the last in that order. Drafts take only blocks that nobody lacks.
"""

import time
from collections import Counter, deque
from collections.abc import Mapping
from operator import add, sub
from types import MappingProxyType

from lepton_engine.config import SchedulerSettings
from lepton_engine.core.acceptance import confirm
from lepton_engine.core.admission import Admission, Load
from lepton_engine.core.events import Event, Failed, NewTokens, Preempted, PromptScores, Started
from lepton_engine.core.isolation import sequences_of
from lepton_engine.core.kv_cache import KVCacheManager
from lepton_engine.core.places import Places
from lepton_engine.core.plan import Sample, ScheduledSequence, StepPlan, StepResult
from lepton_engine.core.request import Request, Sequence, SequenceState
from lepton_engine.core.step_shares import RecentTenants, StepShares
from lepton_engine.core.timers import Timers
from lepton_engine.core.virtual_counters import Lane, VirtualCounters
from lepton_engine.errors import (
    AdmissionError,
    DeadlineExceededError,
    InvalidRequestError,
    LeptonError,
    RequestFailedError,
)

# A generated token weighs this many prompt tokens in a tenant's share, as in the paper of `virtual_counters`: it takes
# a place in the batch for a whole step.
DECODE_WEIGHT = 2


class Scheduler:
    """Owns the requests and the KV cache's bookkeeping; every change goes through its public methods.

    Its counters are public: `finished` by reason; `prompt_tokens` of admitted prompts, and of these `queried_tokens`
    that were looked up in the prefix cache and `cached_tokens` that were found; `computed_tokens`,
    `generated_tokens`, `drafted_tokens`, `accepted_tokens` of these, `preemptions`. `admission` counts what it refuses.
    """

    def __init__(self, settings: SchedulerSettings, cache: KVCacheManager, admission: Admission | None = None) -> None:
        self.cache = cache
        self.admission = admission or Admission(settings)
        self._budget = settings.max_num_batched_tokens
        self._chunk = min(settings.max_prefill_chunk or self._budget, self._budget)
        # Every running sequence can decode in every step, so no rotation among them is needed.
        self.max_running = min(settings.max_num_seqs, self._budget)
        self._requests: dict[str, Request] = {}
        self._counters = VirtualCounters(credit=self._budget)
        self._places = Places(cache, self._counters, self.max_running)
        self._order = self._places.order
        self._recent = RecentTenants()
        self._backlog = False
        self._held_lack = False
        self._timers = Timers(self._requests.__contains__)
        self._events: list[tuple[str, Event]] = []
        self._durations: deque[float] = deque(maxlen=128)
        self._now = 0.0
        self.finished: Counter[str] = Counter()
        self.prompt_tokens = self.queried_tokens = self.cached_tokens = 0
        self.computed_tokens = self.generated_tokens = 0
        self.drafted_tokens = self.accepted_tokens = 0
        self.preemptions = 0

    # -- what is there ------------------------------------------------------------------------------------------

    @property
    def num_running(self) -> int:
        """Sequences that hold KV blocks."""
        return len(self._places.running)

    @property
    def running(self) -> tuple[Sequence, ...]:
        """The running sequences in the order of the last step."""
        return tuple(self._places.running)

    @property
    def num_waiting(self) -> int:
        """Sequences that wait to run, those that wait for a shared prefix, or for a step of their own, included."""
        return self._places.num_waiting

    @property
    def queued_tokens(self) -> int:
        """Prompt tokens of what waits."""
        return self._places.queued_tokens

    @property
    def mean_request_seconds(self) -> float | None:
        """From first scheduling to the end, over the last requests; None before the first."""
        return sum(self._durations) / len(self._durations) if self._durations else None

    @property
    def has_work(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self._requests)

    @property
    def requests(self) -> Mapping[str, Request]:
        """The unfinished requests by key."""
        return MappingProxyType(self._requests)

    def __contains__(self, key: str) -> bool:
        return key in self._requests

    def keys_of(self, client: str) -> list[str]:
        """The unfinished requests of a client."""
        return [key for key, request in self._requests.items() if request.client == client]

    def next_due(self) -> float | None:
        """When the next deadline passes, in `time.monotonic` seconds."""
        return self._timers.next_due()

    # -- requests in --------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Queue a request.

        Raises:
            InvalidRequestError: it could never run here.
            AdmissionError: it is refused for load, or for a limit of its tenant.
            DeadlineExceededError: its deadline has passed.
        """
        length = len(request.prompt)
        if not length:
            raise InvalidRequestError("prompt", "is empty: at least one token is needed")
        if not self.cache.fits_alone(min(length + 1, length + request.max_tokens)):
            limit = self.cache.layout.max_tokens
            raise InvalidRequestError("prompt", f"{length} tokens never fit the KV cache, which holds {limit}")
        if request.params.n > self.max_running:
            raise InvalidRequestError(
                "sampling_params.n", f"{request.params.n} is more than the {self.max_running} sequences that can run"
            )
        now = request.arrival_time
        self.admission.drain.tick(now, self._backlog)
        if request.deadline is not None and request.deadline <= now:
            self.finished["abort"] += 1
            raise DeadlineExceededError(f"the deadline had passed by {now - request.deadline:.3f} s on arrival")
        self.admission.check(request, self._load(request), lambda: self._cached_tokens(request), now)
        self._requests[request.key] = request
        request.start_by = self.admission.start_by(request)
        request.price = 1 / self.admission.tenants.weight(request.tenant)
        self.admission.admitted(request, now)
        self._recent.see(request.tenant, now)
        for due in (request.deadline, request.finish_by, request.start_by):
            if due is not None:
                self._timers.add(due, request.key)
        self._places.enqueue(request.sequences[0])

    def _load(self, request: Request) -> Load:
        free, service = self._places.free_slots, self.mean_request_seconds
        ahead = self._places.waiting.ahead(request.lane)
        return Load(self.num_waiting, self._places.queued_tokens, *ahead, free, self._budget, self._backlog, service)

    def _cached_tokens(self, request: Request) -> int:
        match = self.cache.match(request.sequences[0])
        return len(request.prompt) if match.follow is not None else match.num_blocks * self.cache.layout.block_size

    def abort(self, key: str, index: int | None = None, reason: str = "abort") -> None:
        """End a request, or one of its sequences, with what it has.

        Nothing happens when it has ended already, or when one of n is named before the prompt has been computed.
        """
        request = self._requests.get(key)
        if request is None or (index is not None and not request.forked):
            return
        for sequence in list(request.sequences):
            if sequence.state is not SequenceState.FINISHED and (index is None or sequence.index == index):
                self._finish(sequence, reason)

    def fail(self, key: str, error: LeptonError, *, forget: bool = False) -> None:
        """End a request without success; with `forget`, its KV blocks are not to be trusted."""
        request = self._requests.get(key)
        if request is None:
            return
        for sequence in request.sequences:
            if forget:
                self.cache.forget(sequence)
            if sequence.state is not SequenceState.FINISHED:
                self._places.release(sequence)
        refused = isinstance(error, AdmissionError)
        self._drop(request, "" if refused else "abort" if isinstance(error, DeadlineExceededError) else "error")
        self._tell(request, Failed.of(key, error))

    def take_back(self, plans: list[StepPlan]) -> None:
        """Undo a crashed step, and those launched after it, which may have read its blocks.

        Nothing that they wrote can be hit any more; their sequences wait to be computed again, to the same tokens.
        """
        for plan in plans:
            for sample in plan.samples:
                if sample.offset == 0:
                    sample.sequence.num_pending -= 1
        sequences = sequences_of(plans)
        for sequence in sequences:
            self.cache.forget(sequence)  # Also of what has ended, or lost its blocks, since it was scheduled.
        for sequence in sequences:
            if sequence.state is SequenceState.RUNNING:
                self._places.release(sequence)
                self._places.enqueue(sequence)

    def isolate(self, request: Request) -> None:
        """Take a request that is isolated from now on out of the queue: it gets steps of its own."""
        for sequence in request.sequences:
            if sequence.state in (SequenceState.WAITING, SequenceState.FOLLOWING) and sequence not in self._places.held:
                self._places.release(sequence)
                self._places.enqueue(sequence)

    def rejoin(self, request: Request) -> None:
        """A request that was isolated goes on among the others."""
        for sequence in request.sequences:
            self._places.rejoin(sequence)

    def take_events(self) -> list[tuple[str, Event]]:
        """What has happened since the last call, each with the client that is to hear of it."""
        events, self._events = self._events, []
        return events

    def _tell(self, request: Request, event: Event) -> None:
        self._events.append((request.client, event))

    # -- a step -------------------------------------------------------------------------------------------------

    def schedule(self, now: float) -> StepPlan:
        """Decide the next step and account for it as if it had run. now is in `time.monotonic` seconds."""
        self._now = now
        self._expire(now)
        self._places.wake()
        plan = StepPlan()
        self._order.renew(self._places.running)
        self._make_room_for_head()
        blocked = False
        longest = self.cache.layout.max_tokens
        ready = [(s, n) for s in self._places.running if not s.request.isolated and (n := s.num_wanted(longest))]
        decodes = sum(wanted == 1 for _, wanted in ready)
        reserve = self._draft_reserve() if any(s.draft for s, _ in ready) else []
        shares = self._shares({s.request.lane for s, wanted in ready if wanted > 1}, now)
        for sequence, wanted in ready:
            decodes -= wanted == 1
            if wanted > 1 and not blocked:  # Prompts of who comes first in the order, even if they have yet to begin.
                entries = len(plan.scheduled)
                blocked = not self._admit(plan, now, shares, decodes, before=sequence)
                if reserve and len(plan.scheduled) > entries:
                    reserve = self._draft_reserve()
            count = min(wanted, self._chunk, self._budget - plan.num_tokens - decodes)
            if wanted > 1:
                count = min(count, shares.allowance(self._order.lane_key(sequence)))
            if sequence.state is SequenceState.RUNNING and count > 0:
                if wanted > 1:
                    shares.take(self._order.lane_key(sequence), count)
                room = min(self._chunk, self._budget - plan.num_tokens - decodes) - count
                draft = sequence.draft[: max(0, min(room, sequence.num_draftable(longest)))]
                if draft and not self.cache.can_draft(sequence, count + len(draft), reserve):
                    draft = ()
                blocked = not self._serve(plan, sequence, count, draft) or blocked
            sequence.draft = ()
        if not blocked:
            self._admit(plan, now, shares)
        self._backlog = bool(self.num_waiting)
        self.admission.drain.tick(now, self._backlog)
        return plan

    def schedule_alone(self, requests: list[Request], now: float) -> StepPlan:
        """A step of these isolated requests and nobody else; empty when there is no room for any of them."""
        self._now = now
        self._expire(now)
        self._places.wake()
        plan = StepPlan()
        self._order.renew(self._places.running)
        nothing = [0] * len(self.cache.pools)
        self._held_lack = False
        for sequence in [s for request in requests for s in request.sequences]:
            sequence.draft = ()
            if sequence in self._places.held:
                match = self.cache.match(sequence)
                fits = self.cache.can_admit(sequence, match.num_blocks, nothing)
                if sequence.num_pending or sequence.num_slots > self._places.free_slots or not fits:
                    self._held_lack = True  # Nobody else begins to run until there is room.
                    continue
                self._start(sequence, match.num_blocks, now)
            count = min(sequence.num_wanted(self.cache.layout.max_tokens), self._chunk, self._budget - plan.num_tokens)
            if sequence.state is SequenceState.RUNNING and count > 0:
                self._serve(plan, sequence, count)
        return plan

    def draftable(self) -> list[tuple[Sequence, int]]:
        """The sequences whose next step could verify a draft, and of how many tokens at most."""
        longest = self.cache.layout.max_tokens
        most = min(self._chunk, self._budget) - 1
        return [(s, min(most, limit)) for s in self._places.running if most and (limit := s.num_draftable(longest))]

    def _draft_reserve(self) -> list[int]:
        """Blocks of each group that drafts leave to those that run and to the one that waits first."""
        head = self._places.waiting.head()
        size, groups = self.cache.layout.block_size, self.cache.layout.groups
        waits = [0 if head is None else group.blocks_for(head.num_known, size, self._chunk) for group in groups]
        return list(map(add, self.cache.outstanding(self._places.running), waits))

    def _serve(self, plan: StepPlan, sequence: Sequence, count: int, draft: tuple[int, ...] = ()) -> bool:
        """Schedule count tokens of a running sequence and its draft; False when blocks were taken or are lacking."""
        undisturbed = True
        count += len(draft)
        while (copies := self.cache.allocate(sequence, count)) is None:
            undisturbed = False
            if self._places.running[-1] is sequence:
                return False  # The last in order waits; those before it free blocks, or take its own.
            self._preempt(self._places.running[-1])
        plan.copies.extend(copies)
        request = sequence.request
        scores = request.params.prompt_logprobs is not None and not request.prompt_scored
        plan.scheduled.append(ScheduledSequence(sequence, sequence.num_computed, count, scores, draft))
        plan.num_tokens += count
        self.computed_tokens += count
        sequence.num_computed += count
        if (news := sequence.num_computed - sequence.num_charged) > 0:
            sequence.num_charged = sequence.num_computed
            generated = sequence.num_computed > len(request.prompt)
            self._counters.charge(request.lane, news * request.price * (DECODE_WEIGHT if generated else 1))
        self.cache.commit(sequence)
        if sequence.num_remaining == -len(draft):
            self._sample(plan, sequence, len(draft))
        return undisturbed

    def _sample(self, plan: StepPlan, sequence: Sequence, num_drafted: int) -> None:
        request = sequence.request
        if request.max_tokens == 0:
            return
        takers = [sequence] if request.forked else self._places.fork(sequence)
        for taker in takers:
            taker.num_pending += 1
            plan.samples += [Sample(len(plan.scheduled) - 1, taker, offset) for offset in range(num_drafted + 1)]

    def _shares(self, lanes: set[Lane], now: float) -> StepShares:
        """How a step is shared by the tenants that have prompts in it: the given ones and whose turn is next."""
        head = self._places.waiting.head()
        contested = len(lanes if head is None else lanes | {head.request.lane}) > 1
        return StepShares(self._budget, several=self._recent.several(now), contested=contested)

    def _admit(
        self, plan: StepPlan, now: float, shares: StepShares, decodes: int = 0, before: Sequence | None = None
    ) -> bool:
        """Let waiting sequences run while budget, slots and blocks last, all or those that go before a running one.

        Args:
            decodes: tokens of the budget that are promised to others.

        Returns:
            Whether another could still run in this step if there is budget.
        """
        reserve: list[int] | None = None
        if self._held_lack and self._places.held:
            return False
        while plan.num_tokens < self._budget - decodes and (head := self._places.waiting.head()) is not None:
            if before is not None and self._order.lane_key(head) >= self._order.lane_key(before):
                return True
            # Followers will want slots as well; counting them bounds how many a step looks at.
            if head.num_pending or head.num_slots > self._places.free_slots - self._places.following.before(head):
                return False
            place = self._order.lane_key(head)
            if (allowed := shares.allowance(place)) <= 0:
                return True
            match = self.cache.match(head)
            if match.follow is not None:
                self._places.follow(head, match.follow)
                continue
            if reserve is None:
                reserve = self.cache.outstanding(self._places.running)
            if not self.cache.can_admit(head, match.num_blocks, reserve):
                return False
            newcomers = [head] if head.request.forked else head.request.sequences  # It forks in place.
            self._start(head, match.num_blocks, now)
            count = min(head.num_remaining, self._chunk, self._budget - plan.num_tokens - decodes, allowed)
            shares.take(place, count)
            if not self._serve(plan, head, count):
                return False
            reserve = list(map(add, reserve, self.cache.outstanding(newcomers)))
        return True

    def _start(self, sequence: Sequence, num_blocks: int, now: float) -> None:
        request = sequence.request
        self._places.start(sequence, num_blocks)
        sequence.num_charged = max(sequence.num_charged, sequence.num_computed)
        if request.first_scheduled_time is None:
            request.first_scheduled_time = now
            self.admission.started(request)
            request.num_cached_tokens = sequence.num_computed
            self.prompt_tokens += sequence.num_prompt
            self.queried_tokens += sequence.num_prompt if request.reads_prefix_cache else 0
            self.cached_tokens += sequence.num_computed
            self._tell(request, Started(request.key, sequence.num_computed, time.time()))

    def settle(self, plan: StepPlan, result: StepResult) -> None:
        """Take in what a step has computed; sequences that ended meanwhile are passed over."""
        now = time.time()
        for row, (start, entries) in result.prompt_scores.items():
            request = plan.scheduled[row].sequence.request
            if request.key in self._requests and not request.prompt_scored:
                self._tell(request, PromptScores(request.key, start, entries))
                request.prompt_scored = start + len(entries) >= len(request.prompt)
        for entry in plan.scheduled:
            sequence = entry.sequence
            scored = sequence.request.max_tokens == 0 and entry.start + entry.num_tokens == sequence.num_prompt
            if scored and sequence.state is not SequenceState.FINISHED:
                self._finish(sequence, "length")
        for i, sample in enumerate(plan.samples):
            if sample.offset == 0 and sample.sequence.state is not SequenceState.FINISHED:
                self._confirm(sample.sequence, plan.scheduled[sample.row].draft, result, i, now)

    def _confirm(self, sequence: Sequence, draft: tuple[int, ...], result: StepResult, first: int, now: float) -> None:
        """Take in the tokens that were sampled for a sequence, the first of them the result's first-th."""
        request = sequence.request
        sequence.num_pending -= 1
        rows = slice(first, first + len(draft) + 1)
        longest = self.cache.layout.max_tokens
        confirmed = confirm(sequence, draft, result.token_ids[rows], result.invalid[rows], longest)
        self.generated_tokens += confirmed.count
        self.admission.tenants.charge(request.tenant, confirmed.count, self._now)
        if draft:
            self.cache.truncate(sequence, sequence.num_computed - len(draft) + confirmed.accepted)
            sequence.num_drafted += len(draft)
            sequence.num_accepted += confirmed.accepted
            self.drafted_tokens += len(draft)
            self.accepted_tokens += confirmed.accepted
        if confirmed.count:
            tokens = sequence.token_ids[-confirmed.count :]
            logprobs = [entry for entry in result.logprobs[first : first + confirmed.count] if entry is not None]
            news = tokens, logprobs or None, confirmed.reason, confirmed.stop
            self._tell(request, NewTokens(request.key, sequence.index, *news, now))
        if confirmed.invalid and sequence.matcher is not None and sequence.matcher.complete():
            self._finish(sequence, "stop")
            return
        if confirmed.invalid:
            self.fail(request.key, _invalid(sequence), forget=True)
            return
        self.cache.commit(sequence)
        if confirmed.reason is not None:
            self._places.release(sequence)
            self._end(sequence, confirmed.reason)

    # -- moves between the states -------------------------------------------------------------------------------

    def _make_room_for_head(self) -> None:
        """Preempt for the queue's head while it lacks slots or blocks: see `_gives_way`."""
        head = self._places.waiting.head()
        if head is None or head.num_pending or not self._places.running:
            return
        lane = head.request.lane
        if not any(other != lane and other[0] >= lane[0] for other in self._order.lanes):
            return
        reserve = self.cache.outstanding(self._places.running)
        while self._places.running and not (head.num_slots <= self._places.free_slots and self._fits(head, reserve)):
            last = self._gives_way(head)
            if last is None:
                return
            reserve = list(map(sub, reserve, self.cache.outstanding([last])))
            self._preempt(last)

    def _gives_way(self, head: Sequence) -> Sequence | None:
        """The last of a worse priority, else of a tenant that has more than its share while the head's has less."""
        last, priority = self._places.running[-1], head.request.priority
        if last.request.priority > priority:
            return last
        layout = self.cache.layout
        need = sum(group.blocks_for(head.num_known, layout.block_size, self._chunk) for group in layout.groups)
        blocks = sum(layout.num_blocks) - len(layout.num_blocks)
        waiting = self._places.waiting.tenants(priority)
        return self._order.gives_way(head, need, self._places.running, waiting, slots=self.max_running, blocks=blocks)

    def _fits(self, head: Sequence, reserve: list[int]) -> bool:
        match = self.cache.match(head)
        return match.follow is not None or self.cache.can_admit(head, match.num_blocks, reserve)

    def _preempt(self, sequence: Sequence) -> None:
        """Take everything from a running sequence; it will compute its tokens again."""
        self.preemptions += 1
        sequence.request.num_preemptions += 1
        self._tell(sequence.request, Preempted(sequence.request.key, time.time()))
        self._places.release(sequence)
        self._places.enqueue(sequence)

    def _expire(self, now: float) -> None:
        for key in self._timers.pop_due(now):
            request = self._requests[key]
            if request.deadline is not None and request.deadline <= now:
                self.fail(key, DeadlineExceededError("the deadline passed before the request finished"))
            elif request.finish_by is not None and request.finish_by <= now:
                self.abort(key, reason="time_limit")
            elif request.start_by is not None and request.start_by <= now and request.first_scheduled_time is None:
                self.fail(key, self.admission.queue_timeout(request, self.num_waiting, self._places.queued_tokens, now))

    def _finish(self, sequence: Sequence, reason: str) -> None:
        """End a sequence outside of settling, and with it the siblings that it stands for."""
        self._places.release(sequence)
        request = sequence.request
        first = sequence.index
        indices = [first] if request.forked else range(first, request.params.n)
        for i in indices:
            self._tell(request, NewTokens(request.key, i, [], None, reason, None, time.time()))
        self._end(sequence, reason)

    def _end(self, sequence: Sequence, reason: str) -> None:
        request = sequence.request
        if request.finished or not request.forked:
            self._drop(request, reason)

    def _drop(self, request: Request, reason: str) -> None:
        if reason:
            self.finished[reason] += 1
        del self._requests[request.key]
        self.admission.ended(request, self._now)
        if not self._requests:
            self._counters.rest()
        if request.first_scheduled_time is not None:
            self._durations.append(time.monotonic() - request.first_scheduled_time)

    def problems(self) -> list[str]:
        """What is inconsistent; empty when sound."""
        live = [s for r in self._requests.values() for s in r.sequences if s.state is not SequenceState.FINISHED]
        found = self.cache.problems(live) + self.admission.tenants.problems(self._requests.values())
        return found + list(self._places.problems(live))


def _invalid(sequence: Sequence) -> LeptonError:
    """Why no token could be sampled for a sequence."""
    request, matcher = sequence.request, sequence.matcher
    if matcher is not None:
        masked = bool(request.bad_word_ids or request.params.allowed_token_ids or request.masked_stop_ids)
        if (failure := matcher.failure(masked)) is not None:
            return failure
    return RequestFailedError("the model's logits are not finite, or every token is masked")
