"""connectrpc.conformance.v1.ConformanceService: answers as each request defines, and says what it was asked."""

import asyncio
import base64
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.rpc.status_pb2 import Status

from conformance.schema import Schema

PACKAGE = "connectrpc.conformance.v1"
DETAILS_KEY = "grpc-status-details-bin"


class ConformanceService:
    """The methods that gRPC has; IdempotentUnary is Connect's GET, and Unimplemented has to be."""

    def __init__(self, schema: Schema) -> None:
        self._message: Callable[[str], Any] = lambda name: schema.message(f"{PACKAGE}.{name}")
        self.handlers = schema.handlers(
            f"{PACKAGE}.ConformanceService",
            {
                "Unary": self._unary,
                "ClientStream": self._client_stream,
                "ServerStream": self._server_stream,
                "BidiStream": self._bidi_stream,
            },
        )

    async def _unary(self, request: Any, context: Any) -> Any:
        return await self._answer("UnaryResponse", request.response_definition, [request], context)

    async def _client_stream(self, _: None, context: Any) -> Any:
        requests = [request async for request in _requests(context)]
        definition = requests[0].response_definition if requests else None
        return await self._answer("ClientStreamResponse", definition, requests, context)

    async def _answer(self, kind: str, definition: Any, requests: Sequence[Any], context: Any) -> Any:
        info = self._info(requests, context)
        if definition is None:
            return self._message(kind)(payload=self._message("ConformancePayload")(request_info=info))
        if definition.response_headers:
            await context.send_initial_metadata(_metadata(definition.response_headers))
        trailers = _metadata(definition.response_trailers)
        await asyncio.sleep(definition.response_delay_ms / 1000)
        if definition.WhichOneof("response") == "error":
            await _fail(definition.error, trailers, context, info)
        context.set_trailing_metadata(trailers)
        payload = self._message("ConformancePayload")(data=definition.response_data, request_info=info)
        return self._message(kind)(payload=payload)

    async def _server_stream(self, request: Any, context: Any) -> None:
        definition = request.response_definition if request.HasField("response_definition") else None
        await self._stream("ServerStreamResponse", definition, [request], context)

    async def _bidi_stream(self, _: None, context: Any) -> None:
        first = await context.read()
        if first is grpc.aio.EOF:
            return
        definition = first.response_definition if first.HasField("response_definition") else None
        if first.full_duplex:
            await self._converse(definition, first, context)
        else:
            rest = [request async for request in _requests(context)]
            await self._stream("BidiStreamResponse", definition, [first, *rest], context)

    async def _stream(self, kind: str, definition: Any, requests: Sequence[Any], context: Any) -> None:
        """All answers after all requests; the first says what was asked."""
        if definition is None:
            return
        trailers = await _begin(definition, context)
        info = self._info(requests, context)
        for index, data in enumerate(definition.response_data):
            await asyncio.sleep(definition.response_delay_ms / 1000)
            await self._write(kind, data, info if index == 0 else None, context)
        if definition.HasField("error"):
            await _fail(definition.error, trailers, context, None if definition.response_data else info)

    async def _converse(self, definition: Any, first: Any, context: Any) -> None:
        """An answer to each request, for as long as there are both."""
        if definition is None:
            return
        trailers = await _begin(definition, context)
        answers = list(definition.response_data)
        request, sent, unanswered = first, 0, []
        while request is not grpc.aio.EOF:
            unanswered.append(request)
            if sent == len(answers):
                break
            await asyncio.sleep(definition.response_delay_ms / 1000)
            info = self._info(unanswered, context, headers=sent == 0)
            await self._write("BidiStreamResponse", answers[sent], info, context)
            unanswered, sent = [], sent + 1
            request = await context.read()
        if request is grpc.aio.EOF:
            for data in answers[sent:]:
                await asyncio.sleep(definition.response_delay_ms / 1000)
                await self._write("BidiStreamResponse", data, None, context)
                sent += 1
        if definition.HasField("error"):
            info = None if sent else self._info(unanswered, context)
            await _fail(definition.error, trailers, context, info)

    async def _write(self, kind: str, data: bytes, info: Any, context: Any) -> None:
        payload = self._message("ConformancePayload")(data=data, request_info=info)
        await context.write(self._message(kind)(payload=payload))

    def _info(self, requests: Iterable[Any], context: Any, headers: bool = True) -> Any:
        info = self._message("ConformancePayload.RequestInfo")()
        for request in requests:
            packed = Packed()
            packed.Pack(request)
            info.requests.add().MergeFromString(packed.SerializeToString())
        if not headers:
            return info
        for name, value in context.invocation_metadata():
            text = base64.b64encode(value).rstrip(b"=").decode() if isinstance(value, bytes) else value
            known = next((header for header in info.request_headers if header.name == name), None)
            (known or info.request_headers.add(name=name)).value.append(text)
        remaining = context.time_remaining()
        if remaining is not None:
            info.timeout_ms = max(0, round(remaining * 1000))
        return info


async def _requests(context: Any) -> Any:
    while (request := await context.read()) is not grpc.aio.EOF:
        yield request


async def _begin(definition: Any, context: Any) -> list[tuple[str, str | bytes]]:
    """Sends the headers at once, sets the trailers and returns them."""
    trailers = _metadata(definition.response_trailers)
    context.set_trailing_metadata(trailers)
    await context.send_initial_metadata(_metadata(definition.response_headers))
    return trailers


def _metadata(headers: Iterable[Any]) -> list[tuple[str, str | bytes]]:
    made: list[tuple[str, str | bytes]] = []
    for header in headers:
        name = header.name.lower()
        for value in header.value:
            made.append((name, base64.b64decode(value + "=" * (-len(value) % 4)) if name.endswith("-bin") else value))
    return made


async def _fail(error: Any, trailers: Sequence[tuple[str, str | bytes]], context: Any, info: Any) -> None:
    status = Status(code=error.code, message=error.message)
    for detail in error.details:
        status.details.add().MergeFromString(detail.SerializeToString())
    if info is not None:
        packed = Packed()
        packed.Pack(info)
        status.details.append(packed)
    code = next(code for code in grpc.StatusCode if code.value[0] == error.code)
    await context.abort(code, error.message, (*trailers, (DETAILS_KEY, status.SerializeToString())))
