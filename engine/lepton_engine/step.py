"""The engine's loop: take in commands, schedule, run, settle, tell."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterable

from lepton_engine.core.bunches import Bunches
from lepton_engine.core.events import Event, Failed, NewTokens, Spent
from lepton_engine.core.isolation import Goal, Isolation
from lepton_engine.core.names import RequestNames, fingerprint
from lepton_engine.core.plan import StepPlan
from lepton_engine.core.request import Request
from lepton_engine.core.scheduler import Scheduler
from lepton_engine.energy.ledger import EnergyLedger
from lepton_engine.errors import (
    EngineDeadError,
    LeptonError,
    RequestFailedError,
    RequestIdInUseError,
)
from lepton_engine.figures import Figures, prompt_tokens
from lepton_engine.grammar.intake import POLL_SECONDS, GrammarIntake
from lepton_engine.interfaces import Launched, Recorder, Speculator, StepRunner, Stopping, Transport
from lepton_engine.messages import (
    Abort,
    Admitted,
    Answer,
    Command,
    DropClient,
    EngineStats,
    ModelInfo,
    Query,
    Replies,
    Reply,
    Submit,
)
from lepton_engine.tenant_limits import LimitsFile

logger = logging.getLogger(__name__)

IDLE_POLL = 1.0


class EngineCore:
    """Requests, scheduler and runner behind commands; one step at a time, with at most one more in flight.

    With a speculator no step is in flight while the next is scheduled: drafts build on tokens that the host knows.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: StepRunner,
        info: ModelInfo,
        *,
        overlap: bool,
        speculator: Speculator | None = None,
        tenant_limits: LimitsFile | None = None,
        recorder: Recorder | None = None,
        energy: EnergyLedger | None = None,
        grammars: GrammarIntake | None = None,
    ) -> None:
        self.info = info
        self.scheduler = scheduler
        self._runner = runner
        self._isolation = Isolation(lambda request: request.key in scheduler, self._cleared)
        self._recorder = recorder
        self._energy = energy
        self._grammars = GrammarIntake.without_tokenizer() if grammars is None else grammars
        self._recorded: list[Request] = []
        self._suspects: dict[bytes, int] = {}
        self._convicts: frozenset[bytes] = frozenset()
        self._overlap = overlap and speculator is None
        self._speculator = speculator
        self._tenant_limits = tenant_limits
        self._in_flight: tuple[StepPlan, Launched, float] | None = None
        self._settled = 0.0
        self._arrivals = 0
        self._names = RequestNames(scheduler.__contains__)
        self._outbox: defaultdict[str, Replies] = defaultdict(list)
        self._bunches = Bunches()
        self._figures = Figures()

    def run(self, transport: Transport, stopping: Stopping) -> None:
        """Serve commands until told to stop; a request that crashes its steps fails, the others go on.

        Raises:
            EngineDeadError: the device has been lost; only another process can go on.
        """
        while not stopping():
            for client, command in transport.receive(self._patience()):
                self.handle(client, command)
            for client in transport.lost_clients():
                self.drop_client(client)
            self._reload_limits()
            self.step(transport)
            if self._recorded and self._recorder is not None and not self.scheduler.has_work:
                self._recorded = []
                self._recorder.clear()
            self._tell(transport)

    def _patience(self) -> float:
        if self.scheduler.has_work or self._in_flight:
            return 0.0
        return POLL_SECONDS if self._grammars else IDLE_POLL

    def _reload_limits(self) -> None:
        now = time.monotonic()
        if self._tenant_limits is not None and (table := self._tenant_limits.poll(now)) is not None:
            self.scheduler.admission.tenants.replace(table, now)

    def handle(self, client: str, command: Command) -> None:
        """Carry out a command; errors of a request become its `Failed` event."""
        if isinstance(command, Submit):
            self._submit(client, command)
        elif isinstance(command, Abort):
            self._grammars.cancel(command.key)
            self.scheduler.abort(command.key, command.index, command.reason)
        elif isinstance(command, DropClient):
            self.drop_client(command.client)
        elif isinstance(command, Query):
            problems = self.scheduler.problems() if command.integrity else []
            self._outbox[client].append(Answer(command.number, self.stats(), problems))

    def _submit(self, client: str, command: Submit) -> None:
        if command.key in self.scheduler or command.key in self._grammars:
            return
        now = time.monotonic()
        self._arrivals += 1
        request = Request(
            key=command.key,
            prompt=command.prompt_token_ids,
            params=command.params,
            arrival=self._arrivals,
            arrival_time=now,
            seed=command.seed,
            max_tokens=command.max_tokens,
            stop_token_ids=frozenset(command.stop_token_ids),
            bad_word_ids=tuple(tuple(ids) for ids in command.bad_word_ids),
            priority=command.priority,
            tenant=command.tenant,
            adapter=command.adapter,
            deadline=None if command.deadline is None else now + command.deadline,
            finish_by=None if command.time_limit is None else now + command.time_limit,
            max_queue_time=command.max_queue_time,
            client=client,
        )
        try:
            if self._grammars.add(request, command.request_id):
                self._admit(request, command.request_id)
        except LeptonError as error:
            self._outbox[client].append(Failed.of(command.key, error))

    def _admit_compiled(self, now: float) -> None:
        """Admit the requests that have waited for nothing but their grammar."""
        for request, request_id, failure in self._grammars.ready(now):
            try:
                if failure is not None:
                    raise failure
                self._admit(request, request_id)
            except LeptonError as error:
                self._outbox[request.client].append(Failed.of(request.key, error))

    def _admit(self, request: Request, request_id: str) -> None:
        """Queue a request.

        Raises:
            LeptonError: it is refused; see `Scheduler.submit` and `_check`.
        """
        self._check(request, request_id)
        self.scheduler.submit(request)
        self._bunches.consider(request)
        if request.isolated:
            known = len(request.prompt) + self._suspects[request.fingerprint] + 1
            self._isolation.add(request, Goal(len(request.prompt), known if request.max_tokens else 0))
        if request_id:
            self._names.hold(request.tenant, request_id, request.key)
        if request.start_by is None:
            self._outbox[request.client].append(Admitted(request.key))

    def _check(self, request: Request, request_id: str) -> None:
        """Refuse what must not run, and see whether its steps are to be its own.

        Raises:
            RequestIdInUseError: another request of the tenant has the name.
            RequestFailedError: it has killed an engine process before.
        """
        if request_id and self._names.is_held(request.tenant, request_id):
            raise RequestIdInUseError(f"request_id: a request {request_id!r} is in flight")
        if self._recorder is None:
            return
        request.fingerprint = fingerprint(request)
        if request.fingerprint in self._convicts:
            raise RequestFailedError("the request has ended the engine's process before, it is not run again")
        request.isolated = request.fingerprint in self._suspects

    def _cleared(self, request: Request) -> None:
        """A suspect has got past the point at which it came under suspicion."""
        self._suspects.pop(request.fingerprint, None)
        self.scheduler.rejoin(request)

    def quarantine(self, suspects: Iterable[tuple[bytes, int]], convicts: Iterable[bytes]) -> None:
        """Take over what is known of requests that former processes died of.

        Args:
            suspects: fingerprints of those whose steps are to be their own until they have generated more tokens than
                this. convicts: of those that are not run.
        """
        self._suspects, self._convicts = dict(suspects), frozenset(convicts)

    def drop_client(self, client: str) -> None:
        """End all requests of a client that has gone."""
        for key in self.scheduler.keys_of(client):
            self.scheduler.abort(key)
        for key in self._grammars.keys_of(client):
            self._grammars.cancel(key)
        self._outbox.pop(client, None)

    def step(self, transport: Transport | None = None) -> None:
        """Schedule and launch the next step, then settle the one before it (or this one, without overlap).

        Args:
            transport: told who has been admitted and who begins to run while the step is still to be computed.
        """
        began = time.monotonic()
        if self._energy is not None and self._in_flight is None:
            self._energy.begin(began)
        if self._grammars:
            self._admit_compiled(began)
        self._draft()
        plan = self._plan(began)
        if transport is not None and plan.scheduled:
            self._tell(transport)
        launched = self._launch(plan) if plan.scheduled else None
        if self._in_flight is not None:
            before, self._in_flight = self._in_flight, None
            if (crash := self._settle(*before)) is not None:
                # This step may have read what the crashed one was to write.
                self._recover(crash, before[0], plan)
                launched = None
        if launched is not None:
            # While a culprit is looked for, a step is settled before the next one could hit what it has written.
            if self._overlap and not self._isolation.active:
                self._in_flight = (plan, launched, began)
            elif (crash := self._settle(plan, launched, began)) is not None:
                self._recover(crash, plan)
            self._figures.launched(time.monotonic() - began)

    def _charge(self, energy: EnergyLedger, plan: StepPlan) -> None:
        """Note for whom a step was computed. Who may end by a stop string, which is seen elsewhere, hears of it."""
        live = [(e.sequence.request, e.num_tokens) for e in plan.scheduled if e.sequence.request.key in self.scheduler]
        now = time.monotonic()
        if energy.charge([(request.key, tokens) for request, tokens in live], now):
            for request in dict(live):
                joules = energy.spent(request.key, now) if request.params.stop else None
                if joules is not None:
                    self._outbox[request.client].append(Spent(request.key, joules))

    def _account(self, energy: EnergyLedger, client: str, event: Event) -> None:
        """Tell what a request has taken before its last tokens, and forget it."""
        if isinstance(event, NewTokens) and event.finish_reason is not None:
            joules = energy.spent(event.key, time.monotonic())
            if joules is not None:
                self._outbox[client].append(Spent(event.key, joules))
        elif not isinstance(event, Failed):
            return
        if event.key not in self.scheduler:
            energy.drop(event.key)

    def _draft(self) -> None:
        if self._speculator is None:
            return
        try:
            self._speculator.draft(self.scheduler.draftable())
        except Exception as error:  # Nobody's tokens depend on drafts, so no request is to fail for them.
            logger.error("speculation failed and is switched off", exc_info=error)
            self._speculator = None

    def _plan(self, now: float) -> StepPlan:
        suspects = self._isolation.next_group()
        if suspects is not None:
            plan = self.scheduler.schedule_alone(suspects, now)
            if plan.scheduled:
                return plan
        return self.scheduler.schedule(now)

    def _launch(self, plan: StepPlan) -> Launched | None:
        if self._recorder is not None:
            self._record(self._recorder, plan)
        try:
            return self._runner.launch(plan)
        except Exception as error:  # Whatever the model raises, only the request at fault is to fail.
            before, self._in_flight = self._in_flight, None
            crash = None if before is None else self._settle(*before)
            if crash is None or before is None:
                self._recover(error, plan)
            else:
                self._recover(crash, before[0], plan)
            return None

    def _record(self, recorder: Recorder, plan: StepPlan) -> None:
        """Leave behind who is in this step, for the case that the process does not survive it."""
        requests = [entry.sequence.request for entry in plan.scheduled]
        if requests == self._recorded:
            recorder.again()
            return
        self._recorded = requests
        sequences = [entry.sequence for entry in plan.scheduled]
        recorder.record([(s.request.fingerprint, len(s.token_ids) - s.num_prompt) for s in sequences])

    def _settle(self, plan: StepPlan, launched: Launched, began: float) -> Exception | None:
        """Take in the results of a step that began then; what it raised, if it has crashed."""
        try:
            result = launched.result()
        except Exception as error:  # As in `_launch`.
            return error
        if self._energy is not None:
            self._charge(self._energy, plan)
        generated = self.scheduler.generated_tokens
        self.scheduler.settle(plan, result)
        if self._isolation.active:
            self._isolation.settle()
        generated = self.scheduler.generated_tokens - generated
        prompt, now = prompt_tokens(plan), time.monotonic()
        self._figures.settled(now, prompt, generated)
        sampled = sum(sample.offset == 0 for sample in plan.samples)
        # Of steps that overlap, one takes from the end of the one before it.
        self.scheduler.admission.speed.observe(now - max(began, self._settled), prompt, sampled, generated)
        self._settled = now
        return None

    def _recover(self, error: Exception, plan: StepPlan, *later: StepPlan) -> None:
        """A step has crashed, those launched after it are void: look for the request at fault, compute the rest again.

        Raises:
            EngineDeadError: the device does not work any more.
        """
        logger.error("a step of %d sequences failed", len(plan.scheduled), exc_info=error)
        if device_lost(error):
            raise EngineDeadError(f"the device is lost: {error}") from error
        culprit = self._isolation.crashed(plan)
        self.scheduler.take_back([plan, *later])
        if culprit is not None:
            failure = RequestFailedError(f"the step failed: {type(error).__name__}: {error}")
            self.scheduler.fail(culprit.key, failure, forget=True)
        for entry in plan.scheduled:
            if entry.sequence.request.isolated:
                self.scheduler.isolate(entry.sequence.request)
        self._isolation.settle()

    def _tell(self, transport: Transport) -> None:
        for client, replies in self.take_replies().items():
            transport.send_replies(client, replies)

    def take_replies(self) -> dict[str, list[Reply]]:
        """What is to be told to whom since the last call."""
        for client, event in self.scheduler.take_events():
            if self._energy is not None:
                self._account(self._energy, client, event)
            if (told := self._bunches.pass_on(event)) is not None:
                self._outbox[client].append(told)
        outbox, self._outbox = self._outbox, defaultdict(list)
        return dict(outbox)

    def stats(self) -> EngineStats:
        """Counters and gauges as of now."""
        return self._figures.stats(self.scheduler, self._energy)

    def integrity(self) -> list[str]:
        """What is inconsistent between requests and KV blocks; empty when sound."""
        return self.scheduler.problems()


def device_lost(error: Exception) -> bool:
    """Whether an error says that the device's context is beyond use, as after an illegal access on CUDA."""
    return type(error).__name__ == "AcceleratorError"
