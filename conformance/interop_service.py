"""grpc.testing.TestService as grpc's interop test descriptions ask for it, by coroutine handlers like all of ours."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from conformance.schema import Schema

SERVICE = "grpc.testing.TestService"
ECHO_INITIAL, ECHO_TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"


class InteropService:
    """The methods that grpc-go's client calls; UnimplementedCall is left out, as it has to be."""

    def __init__(self, schema: Schema) -> None:
        self._message: Callable[[str], Any] = lambda name: schema.message(f"grpc.testing.{name}")
        self.handlers = schema.handlers(
            SERVICE,
            {
                "EmptyCall": self._empty,
                "UnaryCall": self._unary,
                "StreamingInputCall": self._input,
                "StreamingOutputCall": self._output,
                "FullDuplexCall": self._duplex,
            },
        )

    async def _empty(self, request: Any, context: Any) -> Any:
        return request

    async def _unary(self, request: Any, context: Any) -> Any:
        await _echo(context)
        await _abort_if_asked(request, context)
        return self._message("SimpleResponse")(payload=self._payload(request.response_size))

    async def _input(self, _: None, context: Any) -> Any:
        total = 0
        while (request := await context.read()) is not grpc.aio.EOF:
            total += len(request.payload.body)
        return self._message("StreamingInputCallResponse")(aggregated_payload_size=total)

    async def _output(self, request: Any, context: Any) -> None:
        await self._respond(request, context)

    async def _duplex(self, _: None, context: Any) -> None:
        await _echo(context)
        while (request := await context.read()) is not grpc.aio.EOF:
            await _abort_if_asked(request, context)
            await self._respond(request, context)

    async def _respond(self, request: Any, context: Any) -> None:
        for wanted in request.response_parameters:
            await asyncio.sleep(wanted.interval_us / 1e6)
            response = self._message("StreamingOutputCallResponse")(payload=self._payload(wanted.size))
            await context.write(response)

    def _payload(self, size: int) -> Any:
        return self._message("Payload")(body=bytes(size))


async def _echo(context: Any) -> None:
    given = dict(context.invocation_metadata())
    if ECHO_TRAILING in given:
        context.set_trailing_metadata(((ECHO_TRAILING, given[ECHO_TRAILING]),))
    if ECHO_INITIAL in given:
        await context.send_initial_metadata(((ECHO_INITIAL, given[ECHO_INITIAL]),))


async def _abort_if_asked(request: Any, context: Any) -> None:
    wanted = request.response_status
    if wanted.code:
        code = next(code for code in grpc.StatusCode if code.value[0] == wanted.code)
        await context.abort(code, wanted.message)
