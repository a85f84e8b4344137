"""Connections: their age, published retries and keepalive, channelz; each by what it does."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

from lepton.v1 import generation_pb2_grpc
from lepton_engine.errors import DeadlineUnattainableError, QueueFullError, SlowReaderError
from lepton_service.client import (
    AsyncLeptonClient,
    LeptonClientError,
    ResourceExhaustedError,
    UnavailableError,
    generate_request,
)
from lepton_service.client.channel import KEEPALIVE_SECONDS, KEEPALIVE_TIMEOUT_SECONDS, SERVICE_CONFIG, channel_options
from lepton_service.converters.errors import PUSHBACK_KEY, pushback, to_status
from lepton_service.errors import EngineUnavailableError, ModelLoadingError, ResourceNotFoundError
from lepton_service.options import ServerOptions

Run = Callable[..., Any]
Eventually = Callable[..., Any]


async def sockets(target: str) -> set[str]:
    """Remote addresses of the connections that the server at this target has, as channelz tells."""
    async with grpc.aio.insecure_channel(target) as channel:
        stub = channelz_pb2_grpc.ChannelzStub(channel)
        servers = await stub.GetServers(channelz_pb2.GetServersRequest())
        found: set[str] = set()
        for server in servers.server:
            listed = await stub.GetServerSockets(channelz_pb2.GetServerSocketsRequest(server_id=server.ref.server_id))
            found.update(reference.name for reference in listed.socket_ref)
    return found


async def test_channelz_tells_of_servers_and_connections_on_both_ports(running: Any) -> None:
    await running.client.complete("hi", max_tokens=1)
    for target in (running.target, running.control):
        async with grpc.aio.insecure_channel(target) as channel:
            stub = channelz_pb2_grpc.ChannelzStub(channel)
            servers = (await stub.GetServers(channelz_pb2.GetServersRequest())).server
            assert sum(server.data.calls_started for server in servers) >= 1
        assert await sockets(target)


async def test_an_old_connection_is_left_by_new_calls_and_kept_by_its_stream(
    run_front: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Rebalancing: the stream outlives its connection's age many times over, new calls come by new connections."""
    with caplog.at_level("INFO", "lepton.access"):
        async with run_front(max_connection_age=0.1) as running:
            running.engine.go.clear()
            async with AsyncLeptonClient(running.target) as client:
                stream = client.generate("hello", max_tokens=3, request_id="long")
                await stream.admitted()
                peers: set[str] = set()
                while len(peers) < 5:
                    await client.list_models()
                    peers = {
                        part
                        for record in caplog.records
                        if record.name == "lepton.access" and "ListModels" in record.getMessage()
                        for part in record.getMessage().split()
                        if part.startswith("peer=")
                    }
                running.engine.go.set()
                assert [event.WhichOneof("event") async for event in stream][-1] == "finished"


async def test_without_an_age_a_connection_stays(run_front: Run) -> None:
    """The control of the test above."""
    async with run_front(max_connection_age=None) as running, AsyncLeptonClient(running.target) as client:
        await client.list_models()
        before = await sockets(running.target)
        for _ in range(50):
            await client.list_models()
        assert len(before & await sockets(running.target)) >= 1


def test_the_service_config_is_data_of_the_package() -> None:
    text = resources.files("lepton_service.client").joinpath("service_config.json").read_text(encoding="utf-8")
    assert json.loads(text) == SERVICE_CONFIG
    (given,) = [value for name, value in channel_options() if name == "grpc.service_config"]
    assert json.loads(str(given)) == SERVICE_CONFIG


async def test_a_loading_model_is_waited_for_by_retries(
    run_front: Run, fake_engine: Any, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    engine = fake_engine()
    engine.loaded.clear()
    caplog.set_level("INFO", "lepton.access")
    async with run_front(engine, ready=False) as running, AsyncLeptonClient(running.target) as client:
        answer = asyncio.create_task(client.complete("hi", max_tokens=3))
        await eventually(lambda: "code=UNAVAILABLE" in caplog.text)
        engine.loaded.set()
        assert (await answer).choices[0].text == "abc"


@dataclass
class Refusing:
    """A server that refuses with a status and trailers, and notes when it was called."""

    trailers: tuple[tuple[str, str], ...] = ()
    code: grpc.StatusCode = grpc.StatusCode.RESOURCE_EXHAUSTED
    seen: list[float] = field(default_factory=list)
    target: str = ""

    async def handle(self, request: bytes, context: Any) -> bytes:
        self.seen.append(asyncio.get_running_loop().time())
        await context.abort(self.code, "refused", self.trailers)
        return b""


@asynccontextmanager
async def refusing(*trailers: tuple[str, str], code: grpc.StatusCode = Refusing.code) -> AsyncIterator[Refusing]:
    server, refuser = grpc.aio.server(), Refusing(trailers, code)
    method: Any = grpc.unary_unary_rpc_method_handler(refuser.handle)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("lepton.v1.ModelService", {"ListModels": method}),)
    )
    refuser.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield refuser
    finally:
        await server.stop(None)


async def attempts(refuser: Refusing, **options: Any) -> list[float]:
    """When the server was called by one call of the client."""
    async with AsyncLeptonClient(refuser.target, **options) as client:
        with pytest.raises(LeptonClientError):
            await client.list_models()
    return refuser.seen


async def test_refused_calls_are_tried_again_as_often_as_published() -> None:
    for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
        async with refusing((PUSHBACK_KEY, "1"), code=code) as refuser:
            assert len(await attempts(refuser)) == SERVICE_CONFIG["methodConfig"][0]["retryPolicy"]["maxAttempts"]
    async with refusing(code=grpc.StatusCode.INVALID_ARGUMENT) as refuser:
        assert len(await attempts(refuser)) == 1
    async with refusing((PUSHBACK_KEY, "1")) as refuser:
        assert len(await attempts(refuser, retry=False)) == 1


async def test_the_servers_delay_is_kept() -> None:
    async with refusing((PUSHBACK_KEY, "250")) as refuser:
        times = await attempts(refuser)
    assert all(later - earlier >= 0.24 for earlier, later in itertools.pairwise(times))


async def test_a_server_that_says_so_is_not_asked_again() -> None:
    async with refusing((PUSHBACK_KEY, "-1")) as refuser:
        assert len(await attempts(refuser)) == 1


async def test_retries_stop_where_most_calls_fail() -> None:
    """retryThrottling: each failure takes a token, and below half of them nothing is tried again."""
    throttling = SERVICE_CONFIG["retryThrottling"]
    async with refusing((PUSHBACK_KEY, "1")) as refuser, AsyncLeptonClient(refuser.target) as client:
        for _ in range(throttling["maxTokens"]):
            with pytest.raises(ResourceExhaustedError):
                await client.list_models()
        before = len(refuser.seen)
        with pytest.raises(ResourceExhaustedError):
            await client.list_models()
        assert len(refuser.seen) == before + 1


@pytest.mark.parametrize(
    ("error", "delay"),
    [
        (QueueFullError("full", retry_after=2.5), "2500"),
        (ModelLoadingError("loading", 0.5), "500"),
        (EngineUnavailableError("gone", 5.0), "5000"),
        (DeadlineUnattainableError("never", None), "-1"),
        (SlowReaderError("unread"), "-1"),
        (ResourceNotFoundError("model", "m", "no"), None),
        (ValueError("a bug"), None),
    ],
)
def test_retry_info_becomes_pushback(error: Exception, delay: str | None) -> None:
    assert pushback(to_status(error)) == (() if delay is None else ((PUSHBACK_KEY, delay),))


async def test_a_refusal_reaches_the_client_as_its_type_once_retries_are_over(running: Any) -> None:
    running.engine.refusal = QueueFullError("full", retry_after=0.01)
    async with AsyncLeptonClient(running.target) as client:
        with pytest.raises(ResourceExhaustedError) as caught:
            await client.complete("hi")
        assert (caught.value.reason, caught.value.retry_after) == ("QUEUE_FULL", 0.01)
        running.engine.refusal = EngineUnavailableError("gone", 0.01)
        with pytest.raises(UnavailableError) as gone:
            await client.complete("hi")
    assert gone.value.reason == "ENGINE_UNAVAILABLE"


async def test_a_client_that_uses_the_published_keepalive_stays_on_a_silent_stream(run_front: Run) -> None:
    """All times of both sides a hundredth of the published ones; a minute of silence becomes 0.6 s. The control is
    `test_pings_faster_than_permitted_are_answered_with_goaway`; `benchmarks.soak --silence` does the true minute."""
    defaults, scale = ServerOptions(), 0.01
    async with run_front(
        min_ping_interval=defaults.min_ping_interval * scale,
        keepalive_time=defaults.keepalive_time * scale,
        keepalive_timeout=5.0,
    ) as running:
        running.engine.go.clear()
        options = channel_options(keepalive=KEEPALIVE_SECONDS * scale, keepalive_timeout=KEEPALIVE_TIMEOUT_SECONDS)
        async with grpc.aio.insecure_channel(running.target, options=options) as channel:
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            call: Any = stub.Generate(generate_request("hi", max_tokens=1))
            await call.initial_metadata()
            _, silent = await asyncio.wait({asyncio.ensure_future(call.code())}, timeout=60 * scale)
            assert silent, "the stream has ended"
            running.engine.go.set()
            while await call.read() is not grpc.aio.EOF:
                pass
            assert await call.code() == grpc.StatusCode.OK
