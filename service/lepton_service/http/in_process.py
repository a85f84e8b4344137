"""Calls of the contract's methods in this process, through the interceptors of the gRPC server.

An HTTP request becomes such a call, so that authentication, limits, telemetry, access log, validation and errors are
those of gRPC: there is no second path to the engine.
"""

from __future__ import annotations  # grpc's handler classes take type arguments in their stubs only

import functools
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Never

import grpc
from google.rpc.status_pb2 import Status

DETAILS_KEY = "grpc-status-details-bin"

Metadata = Sequence[tuple[str, str | bytes]]
Write = Callable[[Any], Awaitable[None]]
Begin = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Details:
    """What interceptors are told of a call before it is handled."""

    method: str
    invocation_metadata: Metadata


@dataclass(frozen=True)
class Origin:
    """Who calls, and until when.

    Attributes:
        metadata: the request's headers, names in lower case.
        peer: the caller's address, in gRPC's form. security: of the connection, in the form of gRPC's `auth_context`.
        deadline: in `time.monotonic` seconds; None for none.
    """

    metadata: Metadata
    peer: str
    security: Mapping[str, Iterable[bytes]] = field(default_factory=dict)
    deadline: float | None = None


class CallError(Exception):
    """A call that ended with another status than OK."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


async def _nothing() -> None:
    """What is done at the beginning of a call where nobody waits for it."""


async def _refuse(message: Any) -> None:
    raise RuntimeError("a unary method has written to a stream")


class InProcessContext(grpc.aio.ServicerContext[Any, Any]):
    """What servicers and interceptors see of the call.

    Args:
        write: takes the messages of a stream; while it waits, the stream's news are merged.
        begin: awaited once when the request is admitted.
    """

    def __init__(self, origin: Origin, write: Write = _refuse, begin: Begin = _nothing) -> None:
        self._origin = origin
        self._write = write
        self._begin: Begin | None = begin
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: Metadata = ()
        self._end: Metadata = ()

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> Never:
        """Ends the call with a status."""
        self._code, self._details = code, details
        self._end = tuple(trailing_metadata)
        raise grpc.aio.AbortError("the call is aborted")

    async def abort_with_status(self, status: grpc.Status) -> Never:
        """Ends the call with a status."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    async def read(self) -> Never:
        """No method that takes a stream is called in this process."""
        raise RuntimeError("this call has one request only")

    async def write(self, message: Any) -> None:
        """Sends one message of the answer."""
        await self._started()
        await self._write(message)

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """The request is admitted."""
        await self._started()

    async def _started(self) -> None:
        if self._begin is not None:
            begin, self._begin = self._begin, None
            await begin()

    def invocation_metadata(self) -> Any:
        """The request's headers."""
        return self._origin.metadata

    def time_remaining(self) -> Any:
        """Seconds until the deadline; None for none."""
        deadline = self._origin.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Kept for the end of the call."""
        self._trailing = tuple(trailing_metadata)

    def trailing_metadata(self) -> Any:
        """What was set."""
        return self._trailing

    def set_code(self, code: grpc.StatusCode) -> None:
        """The status of a call that does not raise."""
        self._code = code

    def code(self) -> Any:
        """The status; None while there is none."""
        return self._code

    def set_details(self, details: str) -> None:
        """The status's message."""
        self._details = details

    def details(self) -> Any:
        """The status's message."""
        return self._details

    def set_compression(self, compression: grpc.Compression) -> None:
        """Nothing is compressed within a process."""

    def disable_next_message_compression(self) -> None:
        """Nothing is compressed within a process."""

    def peer(self) -> str:
        """The caller's address."""
        return self._origin.peer

    def peer_identities(self) -> Iterable[bytes] | None:
        """The names in the caller's certificate; None without one."""
        key = self.peer_identity_key()
        return None if key is None else self._origin.security[key]

    def peer_identity_key(self) -> str | None:
        """Which property of `auth_context` identifies the caller; None for none."""
        for key in ("x509_subject_alternative_name", "x509_common_name"):
            if key in self._origin.security:
                return key
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Properties of the connection's certificate."""
        return self._origin.security

    def done(self) -> bool:
        """Whether the call has a status."""
        return self._code is not None

    def cancelled(self) -> bool:
        """Whether the caller has gone; its task is cancelled then, so code that asks still runs."""
        return False

    def add_done_callback(self, callback: Any) -> None:
        """Not offered: nothing here calls back."""
        raise NotImplementedError("calls in this process have no callbacks; await them")

    def status(self) -> Status:
        """The status with its details, whatever set it."""
        code = self._code or grpc.StatusCode.OK
        for key, value in (*self._end, *self._trailing):
            if key == DETAILS_KEY and isinstance(value, bytes):
                return Status.FromString(value)
        return Status(code=code.value[0], message=self._details)


class Methods:
    """Methods by their full names; the generated `add_...Servicer_to_server` functions take it for a server.

    Args:
        interceptors: of the gRPC server, outermost first.
    """

    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor]) -> None:
        self._interceptors = tuple(interceptors)
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Said beside `add_registered_method_handlers` by generated code: the same handlers once more."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Takes in a service's methods."""
        self._handlers.update({f"/{service}/{name}": handler for name, handler in handlers.items()})

    async def unary(self, method: str, request: Any, origin: Origin, begin: Begin = _nothing) -> Any:
        """Calls a method that answers once.

        Raises:
            CallError: it ended with another status than OK.
        """
        handler = await self._handler(method, origin)
        return await self._call(_behaviour(handler), request, InProcessContext(origin, begin=begin))

    async def stream(self, method: str, request: Any, origin: Origin, write: Write, begin: Begin = _nothing) -> None:
        """Calls a method that answers with a stream; returns at its end.

        Raises:
            CallError: it ended with another status than OK.
        """
        handler = await self._handler(method, origin)
        await self._call(_behaviour(handler), request, InProcessContext(origin, write, begin))

    async def _call(self, behaviour: Any, request: Any, context: InProcessContext) -> Any:
        try:
            answer = await behaviour(request, context)
        except grpc.aio.AbortError:
            raise CallError(context.status()) from None
        if context.code() not in (None, grpc.StatusCode.OK):
            raise CallError(context.status())
        return answer

    async def _handler(self, method: str, origin: Origin) -> Any:
        async def found(details: Any) -> Any:
            return self._handlers[method]

        continuation: Any = found
        for interceptor in reversed(self._interceptors):
            continuation = functools.partial(interceptor.intercept_service, continuation)
        return await continuation(Details(method, origin.metadata))


def _behaviour(handler: Any) -> Any:
    """What a handler does, whatever its kind: interceptors put others in its place to refuse a call."""
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
