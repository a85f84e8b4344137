"""One HTTP request and its response: what handlers read of it and how they answer."""

import asyncio
import math
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

import msgspec

from lepton_service.http.errors import HTTPError
from lepton_service.http.in_process import Origin

TIMEOUT_HEADER = "x-lepton-timeout"

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_JSON = {"content-type": "application/json"}
_EVENTS = {"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"}
_EVERYWHERE = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Exchange:
    """A request and its response.

    Args:
        closes: whether the connection is closed behind the response, for this server is ending.

    Attributes:
        headers: by lower-case name; of several of one name, joined by commas.
        request_id: the caller's, if it can be one, else made.
        started: whether the response has begun; its status can no longer change. complete: whether it is at its end.
        is_read: set when the body has been read; what comes then is that the client goes.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, closes: Callable[[], bool]) -> None:
        self.scope = scope
        self.receive = receive
        self.started = self.complete = False
        self.is_read = asyncio.Event()
        self.arrived = time.monotonic()
        self.headers: dict[str, str] = {}
        for key, data in scope["headers"]:
            name, value = key.decode("latin-1"), data.decode("latin-1")
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
        given = self.headers.get("x-request-id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self._send = send
        self._closes = closes
        self._sending = 0
        self._streams = False
        self._last = self.arrived

    def origin(self, suffix: str = "") -> Origin:
        """Who calls, for a call of the contract's methods.

        Args:
            suffix: appended to the request's id, for a request that becomes several calls.

        Raises:
            HTTPError: the timeout is no time.
        """
        metadata = [
            (name, value)
            for name, value in self.headers.items()
            if name != "x-request-id" and not name.endswith("-bin") and value.isascii()
        ]
        given = self.headers.get("x-request-id") or self.request_id
        metadata.append(("x-request-id", given + suffix))
        return Origin(metadata, self._peer(), self._security(), self._deadline())

    def _peer(self) -> str:
        host, port = self.scope.get("client") or ("unknown", 0)
        return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"

    def _security(self) -> Mapping[str, Iterable[bytes]]:
        found: Mapping[str, Iterable[bytes]] = self.scope.get("state", {}).get("security", {})
        return found

    def _deadline(self) -> float | None:
        text = self.headers.get(TIMEOUT_HEADER)
        if text is None:
            return None
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise HTTPError(400, f"{TIMEOUT_HEADER}: {text[:100]!r} is no time, seconds above 0 are required")
        return self.arrived + seconds

    async def answer(self, status: int, body: bytes, headers: Mapping[str, str] = _JSON) -> None:
        """The whole response."""
        await self._begin(status, {**headers, "content-length": str(len(body))})
        await self._put(body, last=True)

    async def json(self, value: Any, status: int = 200) -> None:
        """The whole response, as JSON."""
        await self.answer(status, msgspec.json.encode(value))

    async def refuse(self, error: HTTPError) -> None:
        """Ends with an error: the response, or, behind the beginning of a stream, its last event."""
        if not self.started:
            await self.answer(error.status, error.body(), error.headers())
        elif self._streams and not self.complete:
            await self._put(b"data: " + error.body() + b"\n\n", last=True)

    async def begin_events(self) -> None:
        """Begins a response that is a stream of events."""
        if not self.started:
            self._streams = True
            await self._begin(200, _EVENTS)

    async def event(self, value: Any) -> None:
        """Sends an event; waits while the client's connection takes no more."""
        await self._put(b"data: " + msgspec.json.encode(value) + b"\n\n")

    async def end_events(self, mark: bytes = b"data: [DONE]\n\n") -> None:
        """Ends the stream."""
        await self._put(mark, last=True)

    async def keep_alive(self, after: float) -> None:
        """Sends a comment on a stream that has been silent for `after` seconds."""
        if self._streams and not self._sending and time.monotonic() - self._last >= after:
            await self._put(b": still there\n\n")

    async def gone(self) -> None:
        """Returns when the client has gone, or the response is complete; not before the body is read."""
        await self.is_read.wait()
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.started = True
        every = {**_EVERYWHERE, "x-request-id": self.request_id, **headers}
        if self._closes():
            every["connection"] = "close"
        raw = [(name.encode(), value.encode("latin-1")) for name, value in every.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def _put(self, data: bytes, last: bool = False) -> None:
        self._sending += 1
        self.complete = self.complete or last
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": not last})
        finally:
            self._sending -= 1
            self._last = time.monotonic()
