"""What each tenant may have in flight, in the queue and in a minute, and what it has."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lepton_engine.core.drain_rate import DrainRate, bounded
from lepton_engine.core.request import Request
from lepton_engine.errors import TenantConcurrencyError, TenantLimitError, TenantQueueFullError, TenantTokenRateError

IDLE_TENANTS = 1024


@dataclass(frozen=True)
class TenantLimits:
    """The limits of one tenant; None is no limit.

    Attributes:
        max_concurrent_requests: in flight at once, those that wait included.
        max_queued_requests: of these, waiting to run for the first time.
        tokens_per_minute: of prompts and outputs together; as many may come at once after a minute of rest.
        weight: its part of a busy server, relative to the others'.
    """

    max_concurrent_requests: int | None = None
    max_queued_requests: int | None = None
    tokens_per_minute: int | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class TenantTable:
    """The limits of all tenants: those that are named, and the default of each other one."""

    default: TenantLimits = TenantLimits()
    tenants: Mapping[str, TenantLimits] = field(default_factory=dict)

    def limits(self, tenant: str) -> TenantLimits:
        """The limits of a tenant."""
        return self.tenants.get(tenant, self.default)

    @property
    def metered(self) -> bool:
        """Whether anyone's tokens are counted."""
        return any(limits.tokens_per_minute is not None for limits in (self.default, *self.tenants.values()))


class TokenBucket:
    """Tokens that may be used: a minute's worth at most, filled evenly.

    What a running request generates is taken as it comes, so the level may fall below zero; what is owed is earned
    again before anything new is let in.
    """

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._now = now

    def level(self, now: float) -> float:
        """Tokens that are left."""
        self._level = min(self._level + max(0.0, now - self._now) * self.per_minute / 60, self.per_minute)
        self._now = max(now, self._now)
        return self._level

    def take(self, tokens: int, now: float) -> None:
        """Tokens were used; a negative number gives back."""
        self._level = min(self.level(now) - tokens, self.per_minute)

    def wait(self, tokens: int, now: float) -> float:
        """Seconds until so many tokens can be taken; of more than a minute's worth, until the bucket is full."""
        lacking = min(tokens, self.per_minute) - self.level(now)
        return max(0.0, lacking) * 60 / self.per_minute

    def resized(self, per_minute: int, now: float) -> "TokenBucket":
        """The same with another limit: as much of it is used."""
        made = TokenBucket(per_minute, now)
        made.take(round(self.per_minute - self.level(now)), now)
        return made


@dataclass
class Account:
    """What a tenant has.

    Attributes:
        in_flight: requests that have not ended. queued: of these, those that have not begun to run.
        queued_tokens: of their prompts.
    """

    in_flight: int = 0
    queued: int = 0
    queued_tokens: int = 0
    bucket: TokenBucket | None = None


class Tenants:
    """The accounts of all tenants, and the limits that they are held to."""

    def __init__(self, table: TenantTable) -> None:
        self._table = table
        self._metered = table.metered
        self._accounts: dict[str, Account] = {}
        self._bound = IDLE_TENANTS
        self._queueing = 0

    @property
    def num_queueing(self) -> int:
        """How many tenants have a request that has not begun to run."""
        return self._queueing

    def account(self, tenant: str) -> Account:
        """What a tenant has; nothing if it is not known."""
        return self._accounts.get(tenant, Account())

    @property
    def accounts(self) -> Mapping[str, Account]:
        """By tenant; one without requests is kept only while its tokens per minute are not all back."""
        return self._accounts

    def weight(self, tenant: str) -> float:
        """The tenant's part of a busy server, relative to the others'."""
        return self._table.limits(tenant).weight

    def replace(self, table: TenantTable, now: float) -> None:
        """Other limits hold from now on; what is in flight stays."""
        self._table = table
        self._metered = table.metered
        for tenant, account in self._accounts.items():
            wanted = table.limits(tenant).tokens_per_minute
            if wanted is None:
                account.bucket = None
            elif account.bucket is not None and account.bucket.per_minute != wanted:
                account.bucket = account.bucket.resized(wanted, now)

    def check(
        self, request: Request, *, queues: bool, service_seconds: float | None, drain: DrainRate, now: float
    ) -> None:
        """See that a request stays within its tenant's limits.

        Args:
            queues: whether it has to wait for more than the next step.
            service_seconds: that a request runs, on average.

        Raises:
            TenantLimitError: it does not.
        """
        error = self._violation(request, queues, service_seconds, drain, now)
        if error is not None:
            error.details["tenant"] = request.tenant
            raise error

    def _violation(
        self, request: Request, queues: bool, service_seconds: float | None, drain: DrainRate, now: float
    ) -> TenantLimitError | None:
        limits = self._table.limits(request.tenant)
        account = self.account(request.tenant)
        name = f"tenant {request.tenant!r}" if request.tenant else "the common tenant"
        most = limits.max_concurrent_requests
        if most is not None and account.in_flight >= most:
            message = f"{name} has {account.in_flight} requests in flight, its limit is {most}"
            delay = None if service_seconds is None else service_seconds / max(1, account.in_flight)
            return TenantConcurrencyError(message, bounded(delay), {"limit": str(most)})
        most = limits.max_queued_requests
        if most is not None and queues and account.queued >= most:
            message = f"{name} has {account.queued} requests waiting, its limit is {most}"
            return TenantQueueFullError(message, drain.retry_after(max(1, self._queueing)), {"limit": str(most)})
        per_minute = limits.tokens_per_minute
        if per_minute is not None and account.bucket is not None:
            wait = account.bucket.wait(len(request.prompt), now)
            if wait > 0:
                left = math.floor(account.bucket.level(now))
                message = (
                    f"{name} has {left} of its {per_minute} tokens a minute left, the prompt has {len(request.prompt)}"
                )
                return TenantTokenRateError(message, bounded(wait), {"limit": str(per_minute)})
        return None

    def admitted(self, request: Request, now: float) -> None:
        """A request is queued; its prompt is charged."""
        if request.tenant not in self._accounts and len(self._accounts) >= self._bound:
            self._sweep(now)
        account = self._accounts.setdefault(request.tenant, Account())
        account.in_flight += 1
        self._queue(account, 1, len(request.prompt))
        self.charge(request.tenant, len(request.prompt), now)

    def started(self, request: Request) -> None:
        """A request runs for the first time."""
        self._queue(self._accounts[request.tenant], -1, -len(request.prompt))

    def _queue(self, account: Account, requests: int, tokens: int) -> None:
        before = account.queued
        account.queued += requests
        account.queued_tokens += tokens
        self._queueing += (account.queued > 0) - (before > 0)

    def charge(self, tenant: str, tokens: int, now: float) -> None:
        """Tokens were used; a negative number gives back."""
        if not self._metered:
            return
        per_minute = self._table.limits(tenant).tokens_per_minute
        account = self._accounts.get(tenant)
        if per_minute is None or account is None:
            return
        if account.bucket is None:
            account.bucket = TokenBucket(per_minute, now)
        account.bucket.take(tokens, now)

    def ended(self, request: Request, now: float) -> None:
        """A request has ended; one that has not begun to run gives its prompt's tokens back."""
        account = self._accounts[request.tenant]
        account.in_flight -= 1
        if request.first_scheduled_time is None:
            self._queue(account, -1, -len(request.prompt))
            self.charge(request.tenant, -len(request.prompt), now)
        if not account.in_flight and self._is_full(account, now):
            del self._accounts[request.tenant]

    def problems(self, requests: Iterable[Request]) -> list[str]:
        """What is inconsistent between the accounts and the unfinished requests; empty when sound."""
        held: dict[str, tuple[int, int, int]] = {}
        for request in requests:
            in_flight, queued, tokens = held.get(request.tenant, (0, 0, 0))
            waits = request.first_scheduled_time is None
            held[request.tenant] = (in_flight + 1, queued + waits, tokens + waits * len(request.prompt))
        found = [f"tenant {tenant!r} has requests and no account" for tenant in held if tenant not in self._accounts]
        for tenant, account in self._accounts.items():
            counted = (account.in_flight, account.queued, account.queued_tokens)
            if counted != held.get(tenant, (0, 0, 0)):
                found.append(f"tenant {tenant!r} has {held.get(tenant, (0, 0, 0))}, its account says {counted}")
        if sum(queued > 0 for _, queued, _ in held.values()) != self._queueing:
            found.append("the tenants that wait are miscounted")
        return found

    def _sweep(self, now: float) -> None:
        """Drop the accounts that say nothing any more."""
        for tenant in [name for name, a in self._accounts.items() if not a.in_flight and self._is_full(a, now)]:
            del self._accounts[tenant]
        self._bound = 2 * len(self._accounts) + IDLE_TENANTS

    @staticmethod
    def _is_full(account: Account, now: float) -> bool:
        return account.bucket is None or account.bucket.level(now) >= account.bucket.per_minute
