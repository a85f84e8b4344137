"""One input of the fuzzer: bytes to a method's request, decoded, validated, converted, run and answered.

The first byte says which method; the others are its request's bytes, or an HTTP request's body. What counts as found:
any exception but the refusal of a call, a status or HTTP code that blames the server, a refusal without its details,
and an input that takes too long.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo

from lepton.v1 import (
    generation_pb2,
    generation_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    scoring_pb2,
    scoring_pb2_grpc,
    stats_pb2,
    stats_pb2_grpc,
    tokenization_pb2,
    tokenization_pb2_grpc,
)
from lepton_service.converters.errors import DOMAIN
from lepton_service.http.app import http_app
from lepton_service.http.endpoint import Running
from lepton_service.http.in_process import CallError, Methods, Origin
from lepton_service.http.options import HTTPOptions
from lepton_service.interceptors.errors import ErrorInterceptor
from lepton_service.servicers.generation import GenerationServicer
from lepton_service.servicers.model import ModelServicer
from lepton_service.servicers.scoring import ScoringServicer
from lepton_service.servicers.stats import StatsServicer
from lepton_service.servicers.tokenization import TokenizationServicer
from lepton_service.state import ServerState
from tests.fuzz.stand_in import StandInEngine

MAX_SECONDS = 5.0  # of processor time
MAX_DETAILS = 8 * 1024

# By the input's first byte, modulo their number. Only append: the corpus counts on the order.
METHODS: Sequence[tuple[str, type[Any]]] = (
    ("/lepton.v1.GenerationService/Generate", generation_pb2.GenerateRequest),
    ("/lepton.v1.GenerationService/Complete", generation_pb2.CompleteRequest),
    ("/lepton.v1.ScoringService/Score", scoring_pb2.ScoreRequest),
    ("/lepton.v1.TokenizationService/Tokenize", tokenization_pb2.TokenizeRequest),
    ("/lepton.v1.TokenizationService/Detokenize", tokenization_pb2.DetokenizeRequest),
    ("/lepton.v1.TokenizationService/ApplyChatTemplate", tokenization_pb2.ApplyChatTemplateRequest),
    ("/lepton.v1.ModelService/GetModel", model_pb2.GetModelRequest),
    ("/lepton.v1.ModelService/ListModels", model_pb2.ListModelsRequest),
    ("/lepton.v1.StatsService/GetStats", stats_pb2.GetStatsRequest),
    ("/lepton.v1.StatsService/WatchStats", stats_pb2.WatchStatsRequest),
    ("/v1/completions", bytes),
    ("/v1/chat/completions", bytes),
    ("/v1/embeddings", bytes),
)
STREAMS = {"/lepton.v1.GenerationService/Generate", "/lepton.v1.StatsService/WatchStats"}
# Statuses by which a request is at fault; nothing here is loaded, drained or out of room.
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.FAILED_PRECONDITION,
}
HTTP_REFUSALS = {400, 403, 404, 405, 408, 413, 415, 422, 501}


class FoundError(Exception):
    """An input that the server did not take as it should."""


class Target:
    """The servicers and the HTTP application of one server, on an engine that computes nothing."""

    def __init__(self) -> None:
        logging.disable(logging.CRITICAL)
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        engine = StandInEngine()
        await engine.start()
        state = ServerState("model", max_stream_seconds=None, max_request_bytes=1 << 24)
        state.mark_ready(engine)
        closing = asyncio.Event()
        closing.set()  # WatchStats ends after what it says at once
        interceptors = [ErrorInterceptor(self._on_error)]
        self.errors: list[Exception] = []
        self._methods = Methods(interceptors)
        server: Any = self._methods
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(GenerationServicer(state), server)
        scoring_pb2_grpc.add_ScoringServiceServicer_to_server(ScoringServicer(state), server)
        tokenization_pb2_grpc.add_TokenizationServiceServicer_to_server(TokenizationServicer(state), server)
        model_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(state), server)
        stats_pb2_grpc.add_StatsServiceServicer_to_server(StatsServicer(state, closing), server)
        self._app = http_app(state, interceptors, HTTPOptions(port=0), Running(), closing)

    def _on_error(self, error: Exception) -> None:
        self.errors.append(error)

    def run(self, data: bytes) -> None:
        """Runs one input.

        Raises:
            FoundError: the server did not take it as it should; any other exception is found as well.
        """
        self.errors.clear()
        method, kind = METHODS[data[0] % len(METHODS)] if data else METHODS[0]
        began = time.process_time()
        if kind is bytes:
            self.loop.run_until_complete(self._post(method, data[1:]))
        else:
            try:
                request = kind.FromString(data[1:])
            except DecodeError:
                return  # answered by gRPC itself
            self.loop.run_until_complete(self._call(method, request))
        took = time.process_time() - began
        if took > MAX_SECONDS:
            raise FoundError(f"{method} took {took:.1f} s")

    async def _call(self, method: str, request: Any) -> None:
        origin = Origin((), "ipv4:127.0.0.1:1")
        try:
            if method in STREAMS:
                await self._methods.stream(method, request, origin, _serialize)
            else:
                await _serialize(await self._methods.unary(method, request, origin))
        except CallError as error:
            self._judge(method, error)

    def _judge(self, method: str, error: CallError) -> None:
        status = error.status
        if status.code not in {code.value[0] for code in REFUSALS}:
            cause = self.errors[-1] if self.errors else None
            raise FoundError(f"{method} answered {status.code}: {status.message}") from cause
        infos = [ErrorInfo.FromString(part.value) for part in status.details if part.Is(ErrorInfo.DESCRIPTOR)]
        if [info.domain for info in infos] != [DOMAIN] or not infos[0].reason:
            raise FoundError(f"{method} refused without an ErrorInfo: {status.message}")
        if status.ByteSize() > MAX_DETAILS:
            raise FoundError(f"{method} refused with {status.ByteSize()} bytes of details")

    async def _post(self, path: str, body: bytes) -> None:
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[dict[str, Any]] = []
        gone = asyncio.Event()

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "state": {},
        }
        await self._app(scope, receive, send)
        status = sent[0]["status"] if sent else 0
        if status != 200 and status not in HTTP_REFUSALS:
            cause = self.errors[-1] if self.errors else None
            raise FoundError(f"POST {path} answered {status}") from cause
        data = b"".join(message.get("body", b"") for message in sent[1:])
        if b'"code":"internal"' in data:  # the last event of a stream that has failed
            raise FoundError(f"POST {path} failed: {data[-300:]!r}") from (self.errors[-1] if self.errors else None)


async def _serialize(message: Any) -> None:
    message.SerializeToString()
