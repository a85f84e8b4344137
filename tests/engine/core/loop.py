"""The engine's loop over a scheduler and the device that checks it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from lepton_engine.config import SchedulerSettings
from lepton_engine.core.admission import Admission
from lepton_engine.core.block_pool import NULL_BLOCK
from lepton_engine.core.events import Event, Failed, NewTokens, PromptScores, Started
from lepton_engine.core.kv_cache import KVCacheManager
from lepton_engine.core.kv_layout import KVCacheLayout, KVGroup
from lepton_engine.core.plan import StepPlan
from lepton_engine.core.request import Request, Sequence, SequenceState
from lepton_engine.core.scheduler import Scheduler
from lepton_engine.core.tenants import TenantTable
from lepton_engine.errors import RequestFailedError
from lepton_engine.sampling_params import SamplingParams
from tests.engine.core.device import (
    NAN,
    Device,
    Fault,
    LaunchedStep,
    StepCrashed,
    choose,
    content,
    extend,
    read_from,
    root,
)


@dataclass
class Told:
    """What the events of a request have said."""

    tokens: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    reasons: dict[int, str] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)
    error: str | None = None
    cached: int = -1

    def take(self, event: Event) -> None:
        assert self.error is None, "an event after the failure"
        if isinstance(event, NewTokens):
            assert event.index not in self.reasons, "an event after the end"
            self.tokens[event.index] += event.token_ids
            if event.finish_reason is not None:
                self.reasons[event.index] = event.finish_reason
        elif isinstance(event, PromptScores):
            for position, entry in enumerate(event.entries, event.start):
                self.scores[position] = entry.logprob
        elif isinstance(event, Started):
            assert self.cached < 0, "started twice"
            self.cached = event.num_cached_tokens
        elif isinstance(event, Failed):
            self.error = event.kind


class Loop:
    """The engine's loop over a scheduler and the device that checks it."""

    def __init__(
        self,
        *,
        block_size: int = 4,
        windows: tuple[int | None, ...] = (None,),
        num_blocks: int | tuple[int, ...] = 64,
        max_num_seqs: int = 8,
        budget: int = 64,
        chunk: int | None = None,
        caching: bool = True,
        overlap: bool = False,
        draft: Callable[[Request, int, int, int], list[int]] | None = None,
        max_queued_requests: int | None = None,
        max_queued_tokens: int | None = None,
        max_queue_time: float | None = None,
        tenants: TenantTable | None = None,
        measured: bool = False,
    ) -> None:
        groups = tuple(KVGroup(window, (i,), 1) for i, window in enumerate(windows))
        counts = num_blocks if isinstance(num_blocks, tuple) else (num_blocks,) * len(windows)
        per_step = min(chunk or budget, budget)
        longest = max(
            tokens
            for tokens in range(sum(counts) * block_size)
            if all(g.blocks_for(tokens, block_size, per_step) < c for g, c in zip(groups, counts, strict=True))
        )
        layout = KVCacheLayout(block_size, groups, counts, min(longest, 1000))
        settings = SchedulerSettings(
            max_num_seqs, budget, chunk, max_queued_requests, max_queued_tokens, max_queue_time=max_queue_time
        )
        self.cache = KVCacheManager(layout, chunk=per_step, enable_prefix_caching=caching)
        self.scheduler = Scheduler(settings, self.cache, Admission(settings, tenants))
        self.device = Device(layout, self.scheduler.max_running)
        self.budget, self.chunk, self.overlap = budget, per_step, overlap
        self.draft = draft  # (request, index, tokens generated, limit) -> tokens that may come next
        self.measured = measured  # Whether the speed is: a step takes a second.
        self.now = 0.0
        self.requests: dict[str, Request] = {}
        self.told: defaultdict[str, Told] = defaultdict(Told)
        self.in_flight: LaunchedStep | None = None
        self.faulty: set[str] = set()  # Requests of crashed steps and with invalid samples.
        self.seen: Counter[str] = Counter()

    def request(
        self,
        prompt: list[int],
        *,
        max_tokens: int = 4,
        n: int = 1,
        priority: int = 0,
        tenant: str = "",
        deadline: float | None = None,
        finish_by: float | None = None,
        max_queue_time: float | None = None,
        stop: Iterable[int] = (),
        min_tokens: int = 0,
        prompt_logprobs: int | None = None,
        presence_penalty: float = 0.0,
    ) -> Request:
        number = len(self.requests)
        params = SamplingParams(
            n=n,
            max_tokens=max(1, max_tokens),
            min_tokens=min_tokens,
            prompt_logprobs=prompt_logprobs,
            presence_penalty=presence_penalty,
        )
        return Request(
            key=f"r{number}",
            prompt=prompt,
            params=params,
            arrival=number,
            arrival_time=self.now,
            seed=number,
            max_tokens=max_tokens,
            stop_token_ids=frozenset(stop),
            priority=priority,
            tenant=tenant,
            deadline=deadline,
            finish_by=finish_by,
            max_queue_time=max_queue_time,
        )

    def submit(self, request: Request) -> Request:
        self.scheduler.submit(request)
        self.requests[request.key] = request
        return request

    def add(self, prompt: list[int], **kwargs: Any) -> Request:
        return self.submit(self.request(prompt, **kwargs))

    def step(self, fault: Callable[[StepPlan], Fault] = lambda plan: Fault()) -> StepPlan:
        """Schedule and launch a step, then settle the one before it, or this one without overlap."""
        self.now += 1
        preemptions = self.scheduler.preemptions
        if self.draft is not None:
            assert not self.overlap
            for sequence, limit in self.scheduler.draftable():
                sequence.draft = tuple(self.draft(sequence.request, sequence.index, sequence.num_generated, limit))
        plan = self.scheduler.schedule(self.now)
        self.seen["preempted"] += self.scheduler.preemptions - preemptions
        self.check(plan)
        launched = None
        if plan.scheduled:
            try:
                launched = self.device.launch(plan, fault(plan))
            except StepCrashed:
                self.fail(plan)
        if self.in_flight is not None:
            settled, self.in_flight = self.in_flight, None
            if not self.settle(settled) and launched is not None:
                self.fail(plan)  # It may have read what the crashed step has written.
                launched = None
        if launched is not None and not self.overlap:
            self.settle(launched)
        elif launched is not None:
            self.in_flight = launched
        self.take_events()
        assert self.scheduler.problems() == []
        return plan

    def settle(self, launched: LaunchedStep) -> bool:
        """Whether the step had not crashed."""
        try:
            result = launched.result()
        except StepCrashed:
            self.fail(launched.plan)
            return False
        drafted, accepted = self.scheduler.drafted_tokens, self.scheduler.accepted_tokens
        alive = [sample.sequence.state is not SequenceState.FINISHED for sample in launched.plan.samples]
        generated = self.scheduler.generated_tokens
        self.scheduler.settle(launched.plan, result)
        if self.measured:
            plan, generated = launched.plan, self.scheduler.generated_tokens - generated
            prompt = sum(max(0, min(e.num_tokens, e.sequence.num_prompt - e.start)) for e in plan.scheduled)
            sampled = sum(sample.offset == 0 for sample in plan.samples)
            self.scheduler.admission.speed.observe(1.0, prompt, sampled, generated)
        drafted, accepted = self.scheduler.drafted_tokens - drafted, self.scheduler.accepted_tokens - accepted
        assert 0 <= accepted <= drafted
        self.seen["accepted"] += accepted
        self.seen["taken back"] += drafted - accepted
        for sample, invalid, was_alive in zip(launched.plan.samples, result.invalid, alive, strict=True):
            behind_a_draft = sample.offset and sample.sequence.request.key in self.scheduler  # Perhaps never reached.
            if invalid and was_alive and not behind_a_draft:
                self.faulty.add(sample.sequence.request.key)
                assert sample.sequence.request.key not in self.scheduler
                assert not self.hits_nan(sample.sequence), "what a broken computation wrote can still be hit"
        return True

    def hits_nan(self, sequence: Sequence) -> bool:
        """Whether a block with a content of the sequence is hittable, but holds what is not a number."""
        return any(
            NAN in self.device.cells[group][block]
            for content in sequence.hashes
            for group, pool in enumerate(self.cache.pools)
            if (block := pool.lookup(content)) is not None
        )

    def fail(self, plan: StepPlan) -> None:
        self.faulty.update(entry.sequence.request.key for entry in plan.scheduled)
        for entry in plan.scheduled:
            self.cache.forget(entry.sequence)  # Also of what has ended, or lost its blocks, since it was scheduled.
            self.scheduler.fail(entry.sequence.request.key, RequestFailedError("the step failed"), forget=True)

    def take_events(self) -> None:
        for _, event in self.scheduler.take_events():
            self.told[event.key].take(event)
            self.seen["hit"] += isinstance(event, Started) and event.num_cached_tokens > 0
        if self.in_flight is None:
            assert not [key for key in self.device.doomed if key in self.scheduler], "ran on with a crashed step's KV"
            self.device.doomed.clear()
            self.device.crash_unknown = False

    def check(self, plan: StepPlan) -> None:
        """What every plan must keep."""
        assert self.scheduler.problems() == []
        assert plan.num_tokens == sum(entry.num_tokens for entry in plan.scheduled) <= self.budget
        assert len({entry.sequence for entry in plan.scheduled}) == len(plan.scheduled)
        live, longest = self.live(), self.cache.layout.max_tokens
        served = {entry.sequence for entry in plan.scheduled} | {sample.sequence for sample in plan.samples}
        running = list(self.scheduler.running)
        idle = [s for s in running if s not in served and s.num_wanted(longest) == 1]
        assert idle in ([], running[-1:]), "a decode was left out, and not for want of blocks as the last in order"
        self.seen["followed"] += len([s for s in live if s.state is SequenceState.FOLLOWING])
        self.seen["copied"] += len(plan.copies)
        takers = {(sample.row, sample.sequence) for sample in plan.samples}
        self.seen["forked"] += len(takers) - len({row for row, _ in takers})
        for entry in plan.scheduled:
            known = len(entry.sequence.token_ids) + len(entry.draft)
            self.seen["with a token of the device"] += entry.start + entry.num_tokens > known
            self.seen["left behind"] += any(NULL_BLOCK in table for table in entry.sequence.blocks)
            assert 0 < entry.num_tokens <= self.chunk
            assert entry.sequence.slot >= 0
            assert len(entry.sequence.blocks) == len(self.cache.pools)
        for sample in plan.samples:
            assert sample.sequence.slot >= 0
            if sample.sequence.request.needs_history:
                assert sample.sequence.num_pending == 1, "sampled without its history on the host"

    def live(self) -> list[Sequence]:
        """The sequences of the unfinished requests."""
        return [s for r in self.requests.values() if r.key in self.scheduler for s in r.sequences]

    def run(self, limit: int = 1000) -> int:
        """Step until nothing is left; the number of steps."""
        idle = 0
        for steps in range(limit):
            if not self.scheduler.has_work and self.in_flight is None:
                return steps
            busy = self.in_flight is not None
            idle = 0 if self.step().scheduled or busy else idle + 1
            assert idle < 3, "nothing runs though requests wait"
        raise AssertionError(f"{self.scheduler.num_running} run and {self.scheduler.num_waiting} wait for ever")

    def alone(self, request: Request, index: int = 0) -> list[int]:
        """The tokens that the sequence must have: those of a run without anything beside it."""
        name, names = root(request), []
        for token in request.prompt:
            names.append(name := extend(name, token))
        tokens: list[int] = []
        limit = min(request.max_tokens, self.cache.layout.max_tokens - len(request.prompt))
        while len(tokens) < limit and not (
            tokens and tokens[-1] in request.stop_token_ids and len(tokens) > request.params.min_tokens
        ):
            last = len(names) - 1
            seen = [tuple(map(content, names[read_from(last, group.window) :])) for group in self.cache.layout.groups]
            tokens.append(choose(seen, request, index, len(tokens)))
            names.append(name := extend(name, tokens[-1]))
        return tokens

    def scores(self, request: Request) -> dict[int, float]:
        """The log-probabilities of the prompt that must be told."""
        name, scores = root(request), {}
        for position, token in enumerate(request.prompt):
            name = extend(name, token)
            scores[position] = float(name)
        del scores[0]
        return scores

    def tokens(self, request: Request, index: int = 0) -> list[int]:
        return self.told[request.key].tokens[index]

    def assert_right(self, request: Request) -> None:
        """All of the request's sequences have ended by themselves, with the tokens of a run alone."""
        told = self.told[request.key]
        assert told.error is None
        assert set(told.reasons) == set(range(request.params.n))
        assert set(told.reasons.values()) <= {"stop", "length"}
        for index in range(request.params.n):
            assert told.tokens[index] == self.alone(request, index)
        if request.params.prompt_logprobs is not None:
            assert told.scores == self.scores(request)

    def assert_drained(self) -> None:
        """Nothing is left of any request."""
        scheduler = self.scheduler
        assert (scheduler.num_running, scheduler.num_waiting, scheduler.queued_tokens) == (0, 0, 0)
        assert not scheduler.has_work
        accounts = scheduler.admission.tenants.accounts.values()
        assert not [a for a in accounts if a.in_flight or a.queued or a.queued_tokens]
        assert scheduler.admission.tenants.num_queueing == 0
        assert [pool.num_free for pool in self.cache.pools] == [n - 1 for n in self.cache.layout.num_blocks]
        assert scheduler.problems() == []
