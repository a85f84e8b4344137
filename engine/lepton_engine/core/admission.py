"""Which requests are let in: the bounds of the queue, the limits of tenants, deadlines that can still be met."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from lepton_engine.config import SchedulerSettings
from lepton_engine.core.drain_rate import DrainRate, bounded
from lepton_engine.core.request import Request
from lepton_engine.core.speed import Speed
from lepton_engine.core.tenants import Tenants, TenantTable
from lepton_engine.errors import AdmissionError, DeadlineUnattainableError, QueueFullError, QueueTimeoutError


@dataclass(frozen=True)
class Load:
    """What a request finds when it comes.

    Attributes:
        waiting, tokens: sequences that wait, and the tokens of their prompts.
        ahead, tokens_ahead: of these, those of the request's own tenant and priority, which all go before it.
        free_slots: sequences that could run beside those that do. step_tokens: that a step computes at most.
        backlog: whether something was left waiting by the last step; what has come since waits for the next.
        service_seconds: that a request runs, on average; None before one has ended.
    """

    waiting: int
    tokens: int
    ahead: int
    tokens_ahead: int
    free_slots: int
    step_tokens: int
    backlog: bool
    service_seconds: float | None = None

    def starts_at_once(self, request: Request) -> bool:
        """Whether the next step is likely to take the request."""
        return (
            not self.backlog
            and self.waiting + request.params.n <= self.free_slots
            and (not self.waiting or self.tokens + len(request.prompt) <= self.step_tokens)
        )


class Admission:
    """Decides on requests as they come, and keeps what it takes to decide.

    Attributes:
        rejected: refused requests by the name of their error. capacity_rejected: of these, those that a server with
            more room would have taken.
    """

    def __init__(self, settings: SchedulerSettings, table: TenantTable | None = None) -> None:
        self._settings = settings
        self.tenants = Tenants(table or TenantTable())
        self.drain = DrainRate()
        self.speed = Speed()
        self.rejected: Counter[str] = Counter()
        self.capacity_rejected = 0

    def check(self, request: Request, load: Load, cached_tokens: Callable[[], int], now: float) -> None:
        """Let a request in, or not.

        Args:
            cached_tokens: looks up how much of the prompt the prefix cache has.

        Raises:
            AdmissionError: why not.
        """
        try:
            queues = not load.starts_at_once(request)
            self.tenants.check(request, queues=queues, service_seconds=load.service_seconds, drain=self.drain, now=now)
            self._check_queue(request, load)
            self._check_deadline(request, load, cached_tokens, now)
        except AdmissionError as error:
            self.count(error)
            raise

    def count(self, error: AdmissionError) -> None:
        """Count a refusal."""
        self.rejected[type(error).__name__] += 1
        unattainable = isinstance(error, DeadlineUnattainableError) and error.retry_after is not None
        self.capacity_rejected += unattainable or isinstance(error, QueueFullError | QueueTimeoutError)

    def _check_queue(self, request: Request, load: Load) -> None:
        requests, tokens = self._settings.max_queued_requests, self._settings.max_queued_tokens
        if load.starts_at_once(request):
            return
        # What the next step takes does not queue, and nobody is refused for what others have in the queue: to a tenant
        # that has less than an equal part of it, it is not full.
        starting = 0 if load.backlog else min(load.waiting, load.free_slots)
        account, length = self.tenants.account(request.tenant), len(request.prompt)
        parts = max(1, self.tenants.num_queueing + (account.queued == 0))
        too_many = too_long = 0
        if requests is not None and account.queued >= requests // parts:
            too_many = load.waiting - starting + 1 - requests
        if tokens is not None and load.waiting and account.queued_tokens + length > tokens // parts:
            too_long = load.tokens + length - tokens
        if too_many > 0 or too_long > 0:
            raise QueueFullError(
                f"the queue is full: {load.waiting} requests, {load.tokens} tokens wait",
                self.drain.retry_after(max(0, too_many), max(0, too_long)),
            )

    def _check_deadline(self, request: Request, load: Load, cached_tokens: Callable[[], int], now: float) -> None:
        if request.deadline is None:
            return
        remaining = request.deadline - now
        idle = self.speed.shortest(request, 0)
        if idle is None:
            return
        wait = self.drain.least_wait(load.ahead, load.tokens_ahead)
        if wait + idle <= remaining:
            return
        idle = self.speed.shortest(request, cached_tokens()) or 0.0
        estimate = wait + idle
        if estimate <= remaining:
            return
        details = {"estimate_seconds": estimate, "estimate_idle_seconds": idle, "remaining_seconds": remaining}
        raise DeadlineUnattainableError(
            f"at the measured speed it takes {estimate:.3f} s, {idle:.3f} s of them on an idle server; "
            f"the deadline is in {remaining:.3f} s",
            bounded(estimate - remaining) if idle <= remaining else None,
            {name: f"{value:.3f}" for name, value in details.items()},
        )

    def start_by(self, request: Request) -> float | None:
        """When a request has waited too long, in `time.monotonic` seconds; None for never."""
        bounds = [b for b in (self._settings.max_queue_time, request.max_queue_time) if b is not None]
        return request.arrival_time + min(bounds) if bounds else None

    def queue_timeout(self, request: Request, waiting: int, tokens: int, now: float) -> QueueTimeoutError:
        """The error of a request that has waited too long; counted."""
        error = QueueTimeoutError(
            f"it waited for {now - request.arrival_time:.3f} s and has not begun to run",
            self.drain.retry_after(waiting, tokens),
        )
        self.count(error)
        return error

    # -- what happens to those that were let in -----------------------------------------------------------------

    def admitted(self, request: Request, now: float) -> None:
        """A request is queued."""
        self.tenants.admitted(request, now)

    def started(self, request: Request) -> None:
        """A request runs for the first time."""
        self.tenants.started(request)
        self.drain.left(len(request.prompt))

    def ended(self, request: Request, now: float) -> None:
        """A request has ended, whichever way."""
        self.tenants.ended(request, now)
        if request.first_scheduled_time is None:
            self.drain.left(len(request.prompt))
