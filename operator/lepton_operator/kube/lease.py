"""Leader election by a Lease, on raw updates.

Two processes may for a moment both believe that they lead: no Lease can prevent it. What is promised is that no write
arrives from a process whose Lease ran out more than one request timeout before: every write asks `check` first,
requests have timeouts below the renew deadline, and the clock counts while the process or the machine is asleep.
"""

import asyncio
import logging
import math
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec

from lepton_operator.kube.client import ApiError, Client
from lepton_operator.kube.resources import LEASES
from lepton_operator.settings import LeaseSettings

_log = logging.getLogger("lepton.operator.lease")


class LostLeaseError(Exception):
    """This process may not write any more: it must end."""


def clock() -> float:
    """Seconds that pass while the machine is suspended too."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class _Spec(msgspec.Struct, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    lease_transitions: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Lease(msgspec.Struct):
    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)


class Leadership:
    """The Lease, and whether this process holds it.

    Args:
        settings: None leads without a Lease.
    """

    def __init__(self, settings: LeaseSettings | None, identity: str, namespace: str) -> None:
        self._settings = settings
        self._namespace = namespace
        self.identity = f"{identity}_{uuid.uuid4().hex[:8]}"
        self._held_until = math.inf if settings is None else -math.inf
        self._version = ""
        self._notes: dict[str, dict[str, str]] = {}  # Others' labels and annotations, which a replacement must keep.
        self._seen = ("", -math.inf)
        self._transitions = 0
        self._acquired = ""

    @property
    def held(self) -> bool:
        """Whether this process leads now."""
        return clock() < self._held_until

    def check(self) -> None:
        """Raises LostLeaseError when this process may not write."""
        if not self.held:
            raise LostLeaseError(f"{self.identity} does not hold the Lease")

    async def acquire(self, client: Client) -> None:
        """Returns once this process leads."""
        settings = self._settings
        if settings is None:
            return
        while True:
            wait = settings.retry_period
            began = clock()
            try:
                wait = await self._try(client, settings)
            except ApiError as error:
                if error.status not in (409, 404):
                    _log.warning("lease", extra={"error": str(error)})
            if self.held:
                _log.info("leading", extra={"identity": self.identity})
                return
            await asyncio.sleep(max(0.05, wait - (clock() - began)))

    async def _try(self, client: Client, settings: LeaseSettings) -> float:
        """Takes the Lease if it is free; else how long to wait before the next try."""
        path = LEASES.path(self._namespace, settings.name)
        try:
            lease = msgspec.json.decode(await client.get(path), type=_Lease)
        except ApiError as error:
            if error.status != 404:
                raise
            self._transitions, self._acquired = 0, _now()
            began = clock()
            body = self._body(settings, self.identity)
            self._keep(await client.create(LEASES.path(self._namespace), body, gated=False), began, settings)
            return 0.0
        version, spec = lease.metadata.resource_version, lease.spec
        if version != self._seen[0]:
            self._seen = (version, clock())
        duration = float(spec.lease_duration_seconds or settings.duration)
        left = self._seen[1] + duration - clock()
        if spec.holder_identity and left > 0:
            return min(settings.retry_period, left)
        self._remember(lease.metadata)
        self._acquired = _now()
        self._transitions = (spec.lease_transitions or 0) + 1
        began = clock()
        self._keep(await client.replace(path, self._body(settings, self.identity), gated=False), began, settings)
        return 0.0

    async def keep(self, client: Client) -> None:
        """Renews the Lease for ever.

        Raises:
            LostLeaseError: another took it, or it could not be renewed in time.
        """
        settings = self._settings
        if settings is None:
            await asyncio.Event().wait()
            return
        path = LEASES.path(self._namespace, settings.name)
        while True:
            await asyncio.sleep(min(settings.retry_period, max(0.0, self._held_until - clock())))
            self.check()
            began = clock()
            try:
                answer = await client.replace(path, self._body(settings, self.identity), gated=False)
            except ApiError as error:
                self.check()
                if error.status in (404, 409):
                    await self._look(client, path)
                _log.warning("the lease was not renewed", extra={"error": str(error)})
                continue
            self._keep(answer, began, settings)

    async def _look(self, client: Client, path: str) -> None:
        """After a conflict: an answer of ours may have been lost, or another has taken the Lease."""
        try:
            lease = msgspec.json.decode(await client.get(path), type=_Lease)
        except ApiError as error:
            if error.status == 404:
                self._lose("the Lease was deleted")
            return
        if lease.spec.holder_identity != self.identity:
            self._lose(f"{lease.spec.holder_identity or 'nobody'} holds the Lease")
        self._remember(lease.metadata)

    def _lose(self, why: str) -> None:
        self._held_until = -math.inf
        raise LostLeaseError(why)

    async def release(self, client: Client) -> None:
        """Gives the Lease back, so that the next leads at once."""
        settings = self._settings
        if settings is None or not self.held:
            return
        self._held_until = -math.inf
        try:
            await client.replace(LEASES.path(self._namespace, settings.name), self._body(settings, ""), gated=False)
        except ApiError as error:
            _log.warning("the lease was not released", extra={"error": str(error)})

    def _keep(self, answer: bytes, began: float, settings: LeaseSettings) -> None:
        self._remember(msgspec.json.decode(answer, type=_Lease).metadata)
        self._held_until = began + settings.renew_deadline

    def _remember(self, metadata: _Meta) -> None:
        self._version = metadata.resource_version
        self._notes = {"labels": metadata.labels, "annotations": metadata.annotations}

    def _body(self, settings: LeaseSettings, holder: str) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": settings.name, "namespace": self._namespace, **self._notes}
        if self._version:
            metadata["resourceVersion"] = self._version
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": max(1, round(settings.duration)) if holder else 1,
                "leaseTransitions": self._transitions,
                "acquireTime": self._acquired,
                "renewTime": _now(),
            },
        }


def _now() -> str:
    """The time as the API's MicroTime: always with six digits, or a time of whole seconds could not be read back."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
