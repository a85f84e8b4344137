"""Random schedules: every invariant at every step, every KV read, and at the end every token.

`LEPTON_SEEDS=FIRST:LAST` runs those seeds instead of the usual ones.
"""

import os
import random
from collections import Counter
from copy import copy

import pytest

from lepton_engine.core.plan import StepPlan
from lepton_engine.core.request import Request, SequenceState
from lepton_engine.core.tenants import TenantLimits, TenantTable
from lepton_engine.errors import (
    AdmissionError,
    DeadlineExceededError,
    DeadlineUnattainableError,
    InvalidRequestError,
    QueueFullError,
)
from tests.engine.core.device import VOCABULARY, Fault
from tests.engine.core.loop import Loop

SHARDS, SEEDS_PER_SHARD, STEPS = 8, 140, 60

KINDS = (
    *("hit", "followed", "copied", "forked", "preempted", "left behind", "with a token of the device"),
    *("cancelled WAITING", "cancelled RUNNING", "cancelled in mid-prefill", "cancelled decoding"),
    *("cancelled a leader", "cancelled preempted", "cancelled one of several", "crashed", "invalid"),
    *("accepted", "taken back", "stop", "length", "abort", "time_limit", "DeadlineExceededError", "RequestFailedError"),
    *("refused QueueFullError", "refused DeadlineUnattainableError", "refused DeadlineExceededError"),
    *("refused TenantConcurrencyError", "refused TenantQueueFullError", "refused TenantTokenRateError"),
    *("QueueTimeoutError", "several tenants run", "out of the order of arrival"),
)


class Storm:
    """One seed: a random engine and random things that happen to it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.seen: Counter[str] = Counter()
        self.tenants = self.random.choice([["", "", "other"], ["", "other", "third", "fourth"]])
        self.loop = self._loop()
        self.families = [self._tokens(60) for _ in range(self.random.randint(1, 3))]
        self.rate = self.random.choice([0.2, 0.6, 2.0])
        self.cancels = self.random.choice([0.0, 0.05, 0.3])
        self.crashes = self.random.choice([0.0, 0.0, 0.03])
        self.invalid = self.random.choice([0.0, 0.0, 0.03])
        self.priorities = self.random.choice([1, 1, 3])
        self.ended_early: set[str] = set()

    def _tokens(self, count: int) -> list[int]:
        return [self.random.randrange(VOCABULARY) for _ in range(count)]

    def _loop(self) -> Loop:
        r = self.random
        overlap = r.random() < 0.5
        window = r.randint(1, 12)
        windows = r.choice([(None,), (None,), (window,), (None, window), (None, window, window + r.randint(1, 9))])
        roomy = r.random() < 0.3
        block_size = r.choice([1, 2, 3, 4, 8])
        longest = r.randint(16, 60)
        counts = tuple(
            2 + -(-longest // block_size) * (4 if roomy else 1) + r.randint(0, 12 // block_size) for _ in windows
        )
        return Loop(
            block_size=block_size,
            windows=windows,
            num_blocks=counts,
            max_num_seqs=r.randint(1, 8),
            budget=r.choice([1, 4, 8, 16, 64]),
            chunk=r.choice([None, 1, 3, 8]),
            caching=r.random() < 0.85,
            overlap=overlap,
            draft=self.draft if not overlap and r.random() < 0.6 else None,
            max_queued_requests=r.choice([None] * 5 + [3]),
            max_queued_tokens=r.choice([None] * 5 + [40]),
            max_queue_time=r.choice([None] * 5 + [4]),
            tenants=self._limits(),
            measured=r.random() < 0.5,
        )

    def _limits(self) -> TenantTable | None:
        """Limits of all, and others of one of them."""
        r = self.random
        if r.random() < 0.6:
            return None

        def some() -> TenantLimits:
            return TenantLimits(
                r.choice([None, 1, 3, 6]),
                r.choice([None, None, 0, 2]),
                r.choice([None, None, 30, 300]),
                r.choice([1, 1, 0.5, 3]),
            )

        return TenantTable(some(), {"other": some()})

    def draft(self, request: Request, index: int, generated: int, limit: int) -> list[int]:
        """What will come, with mistakes; often longer than what would be of use."""
        right = self.loop.alone(request, index)[generated:]
        length = self.random.choice([0, 1, 3, limit])
        draft = (right + self._tokens(length))[:length]
        return [self.random.randrange(VOCABULARY) if self.random.random() < 0.2 else token for token in draft]

    def submit(self) -> None:
        r, loop = self.random, self.loop
        length = r.choice([1, 4, 8, 16, r.randint(1, 50)])
        prompt = r.choice(self.families)[
            : length if r.random() < 0.1 else min(length, loop.cache.layout.max_tokens - 8)
        ]
        if r.random() < 0.5:
            prompt = prompt + self._tokens(r.randint(0, 6))
        max_tokens = r.choice([0, 1, 2, 5, r.randint(1, 25)])
        scored = max_tokens == 0 or r.random() < 0.1
        request = loop.request(
            prompt,
            max_tokens=max_tokens,
            n=r.choice([1, 1, 1, min(2, loop.scheduler.max_running), 4]),
            priority=r.randrange(self.priorities),
            tenant=r.choice(self.tenants),
            stop=r.choice([(), (0,), (0, 1)]),
            min_tokens=r.randint(0, max_tokens) if r.random() < 0.3 else 0,
            prompt_logprobs=0 if scored else None,
            presence_penalty=float(r.random() < 0.2),
            deadline=loop.now + r.randint(0, 60) if r.random() < 0.1 else None,
            finish_by=loop.now + r.randint(0, 60) if r.random() < 0.1 else None,
            max_queue_time=r.randint(1, 20) if r.random() < 0.1 else None,
        )
        accounts = {name: copy(account) for name, account in loop.scheduler.admission.tenants.accounts.items()}
        try:
            loop.submit(request)
        except (AdmissionError, DeadlineExceededError) as error:
            self.seen[f"refused {type(error).__name__}"] += 1
            assert loop.scheduler.admission.tenants.accounts == accounts, "a refusal has left something"
            assert request.key not in loop.scheduler
            self.refuse(request, error)
        except InvalidRequestError:
            self.seen["too large"] += 1
            assert request.params.n > loop.scheduler.max_running or len(prompt) + 1 > loop.cache.layout.max_tokens

    def refuse(self, request: Request, error: Exception) -> None:
        """See that there is reason to refuse."""
        scheduler = self.loop.scheduler
        if isinstance(error, QueueFullError):
            assert scheduler.num_waiting
        if isinstance(error, DeadlineUnattainableError):
            figures = {name: float(value) for name, value in error.details.items()}
            assert request.deadline is not None
            assert figures["estimate_seconds"] > figures["remaining_seconds"]
            assert (error.retry_after is None) == (figures["estimate_idle_seconds"] > figures["remaining_seconds"])
        elif isinstance(error, AdmissionError):
            assert error.retry_after is not None
        else:
            assert request.deadline is not None
            assert request.deadline <= self.loop.now
        if isinstance(error, AdmissionError) and error.retry_after is not None:
            assert 0.1 <= error.retry_after <= 60

    def cancel(self) -> None:
        """End a request, or one sequence of it, or its deadline passes; by state, so that rare ones come as well."""
        live = [s for s in self.loop.live() if s.state is not SequenceState.FINISHED]
        if not live:
            return
        states = sorted({s.state for s in live}, key=lambda state: state.name)
        state = self.random.choice(states)
        sequence = self.random.choice([s for s in live if s.state is state])
        request = sequence.request
        whole = not request.forked or self.random.random() < 0.5
        self.seen[f"cancelled {state.name}"] += 1
        self.seen["cancelled a leader"] += bool(sequence.leads)
        self.seen["cancelled in mid-prefill"] += bool(sequence.blocks) and sequence.num_computed < sequence.num_prompt
        self.seen["cancelled decoding"] += bool(sequence.blocks) and sequence.num_generated > 0
        self.seen["cancelled preempted"] += request.num_preemptions > 0 and not sequence.blocks
        self.seen["cancelled one of several"] += request.params.n > 1 and not whole
        self.ended_early.add(request.key)
        self.loop.scheduler.abort(request.key, None if whole else sequence.index)
        assert self.loop.scheduler.problems() == []

    def fault(self, plan: StepPlan) -> Fault:
        r = self.random
        if r.random() < self.crashes:
            self.seen["crashed"] += 1
            return Fault(crash=r.choice(["launch", "result"]))
        invalid = {i for i in range(len(plan.samples)) if r.random() < self.invalid}
        self.seen["invalid"] += len(invalid)
        return Fault(masked=invalid) if r.random() < 0.5 else Fault(nan=invalid)

    def run(self) -> None:
        for _ in range(STEPS):
            while self.random.random() < self.rate / (1 + self.rate):
                self.submit()
            if self.random.random() < self.cancels:
                self.cancel()
            self.loop.step(self.fault)
            running = self.loop.scheduler.running
            self.seen["several tenants run"] += len({sequence.request.tenant for sequence in running}) > 1
            self.seen["out of the order of arrival"] += sorted(running, key=lambda s: s.order) != list(running)
        work = sum(
            r.params.n * (len(r.prompt) + r.max_tokens)
            for r in self.loop.requests.values()
            if r.key in self.loop.scheduler
        )
        self.loop.run(limit=100 + 4 * work)
        self.loop.assert_drained()
        for request in self.loop.requests.values():
            self.judge(request)

    def judge(self, request: Request) -> None:
        told = self.loop.told[request.key]
        if told.error is not None:
            self.seen[told.error] += 1
            if told.error == "QueueTimeoutError":
                assert request.start_by is not None
                assert request.first_scheduled_time is None
                assert told.cached < 0
                return
            assert told.error == "DeadlineExceededError" or request.key in self.loop.faulty
            assert told.error == "RequestFailedError" or request.deadline is not None
            return
        reasons = set(told.reasons.values())
        assert len(told.reasons) == request.params.n
        self.seen.update(reasons)
        if reasons <= {"stop", "length"}:
            self.loop.assert_right(request)
            return
        assert "abort" not in reasons or request.key in self.ended_early
        assert "time_limit" not in reasons or request.finish_by is not None
        for index in range(request.params.n):
            tokens = self.loop.tokens(request, index)
            assert tokens == self.loop.alone(request, index)[: len(tokens)]


def seeds(shard: int) -> range:
    if "LEPTON_SEEDS" in os.environ:
        first, last = map(int, os.environ["LEPTON_SEEDS"].split(":"))
        return range(first + shard, last + 1, SHARDS)
    return range(shard, SHARDS * SEEDS_PER_SHARD, SHARDS)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_random_schedules_keep_every_invariant(shard: int) -> None:
    seen: Counter[str] = Counter()
    for seed in seeds(shard):
        storm = Storm(seed)
        try:
            storm.run()
        except Exception as error:
            raise AssertionError(f"LEPTON_SEEDS={seed}:{seed} at time {storm.loop.now:g}: {error}") from error
        seen += storm.seen + storm.loop.seen
    print(f"shard {shard}: {dict(sorted(seen.items()))}")
    if "LEPTON_SEEDS" not in os.environ:
        assert not [kind for kind in KINDS if not seen[kind]], "the schedules no longer come to all that matters"
