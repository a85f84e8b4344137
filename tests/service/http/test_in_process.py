"""Calls in this process: what interceptors and servicers see, and how calls end."""

import time
from typing import Any

import grpc
import pytest

from lepton.v1 import model_pb2_grpc
from lepton.v1.model_pb2 import GetModelRequest, GetModelResponse, ListModelsRequest, ListModelsResponse, Model
from lepton_service.http.in_process import CallError, Methods, Origin

GET_MODEL = "/lepton.v1.ModelService/GetModel"
ORIGIN = Origin((("traceparent", "00-a-b-01"),), "ipv4:127.0.0.1:5", {"x509_common_name": [b"ann"]})


class Notes(grpc.aio.ServerInterceptor):
    """Writes down what passes it."""

    def __init__(self, name: str, notes: list[Any]) -> None:
        self.name = name
        self.notes = notes

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        self.notes.append((self.name, handler_call_details.method, dict(handler_call_details.invocation_metadata)))
        return await continuation(handler_call_details)


class Servicer(model_pb2_grpc.ModelServiceServicer):
    """Answers as it is told, and keeps the context."""

    def __init__(self, end: Any = None) -> None:
        self.end = end
        self.context: Any = None

    async def GetModel(self, request: GetModelRequest, context: Any) -> GetModelResponse:
        self.context = context
        if self.end is not None:
            await self.end(context)
        return GetModelResponse(model=Model(name=request.name))

    async def ListModels(self, request: ListModelsRequest, context: Any) -> ListModelsResponse:
        raise AssertionError("nobody asks")


def methods(servicer: Servicer, *interceptors: Any) -> Methods:
    made: Any = Methods(interceptors)
    model_pb2_grpc.add_ModelServiceServicer_to_server(servicer, made)
    found: Methods = made
    return found


async def test_interceptors_see_the_call_outermost_first() -> None:
    notes: list[Any] = []
    servicer = Servicer()
    calls = methods(servicer, Notes("outer", notes), Notes("inner", notes))
    answer = await calls.unary(GET_MODEL, GetModelRequest(name="m"), ORIGIN)
    assert answer.model.name == "m"
    assert notes == [(name, GET_MODEL, {"traceparent": "00-a-b-01"}) for name in ("outer", "inner")]
    context = servicer.context
    assert context.peer() == "ipv4:127.0.0.1:5"
    assert (context.peer_identity_key(), list(context.peer_identities())) == ("x509_common_name", [b"ann"])
    assert context.time_remaining() is None


async def test_a_deadline_counts_down() -> None:
    servicer = Servicer()
    await methods(servicer).unary(GET_MODEL, GetModelRequest(), Origin((), "", deadline=time.monotonic() + 100))
    assert 0 < servicer.context.time_remaining() <= 100
    await methods(servicer).unary(GET_MODEL, GetModelRequest(), Origin((), "", deadline=time.monotonic() - 1))
    assert servicer.context.time_remaining() == 0


async def test_ends_without_details() -> None:
    async def abort(context: Any) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "gone")

    async def set_code(context: Any) -> None:
        context.set_code(grpc.StatusCode.UNAVAILABLE)
        context.set_details("busy")

    for end, code, message in (
        (abort, grpc.StatusCode.NOT_FOUND, "gone"),
        (set_code, grpc.StatusCode.UNAVAILABLE, "busy"),
    ):
        with pytest.raises(CallError) as caught:
            await methods(Servicer(end)).unary(GET_MODEL, GetModelRequest(), ORIGIN)
        assert (caught.value.status.code, caught.value.status.message) == (code.value[0], message)


async def test_the_answer_begins_once() -> None:
    begun = 0

    async def begin() -> None:
        nonlocal begun
        begun += 1

    async def headers(context: Any) -> None:
        await context.send_initial_metadata(())
        await context.send_initial_metadata(())

    await methods(Servicer(headers)).unary(GET_MODEL, GetModelRequest(), ORIGIN, begin)
    assert begun == 1


async def test_errors_that_nobody_turned_into_a_status_pass() -> None:
    async def fail(context: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await methods(Servicer(fail)).unary(GET_MODEL, GetModelRequest(), ORIGIN)
    with pytest.raises(RuntimeError, match="one request"):
        await methods(Servicer(lambda context: context.read())).unary(GET_MODEL, GetModelRequest(), ORIGIN)


async def test_headers_become_metadata(run_web: Any) -> None:
    notes: list[Any] = []
    async with run_web(interceptors=[Notes("all", notes)]) as web:
        headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-bytes-bin": "AA=="}
        await web.raw.get("/v1/models", headers={**headers, "x-request-id": "mine"})
    ((_, method, metadata),) = notes
    assert method == "/lepton.v1.ModelService/ListModels"
    assert metadata["traceparent"] == headers["traceparent"]
    assert metadata["x-request-id"] == "mine"
    assert "x-bytes-bin" not in metadata
