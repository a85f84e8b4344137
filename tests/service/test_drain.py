"""The drain: which calls are taken, which are waited for, what ends when, and how it is cut short."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lepton.v1 import stats_pb2_grpc
from lepton.v1.model_pb2 import ModelState
from lepton.v1.stats_pb2 import GetStatsRequest, WatchStatsRequest
from lepton_service.app import EXIT_CUT_SHORT, EXIT_OK
from lepton_service.client import AsyncLeptonClient, LeptonClientError
from lepton_service.health import GENERATION

Run = Callable[..., Any]
Eventually = Callable[[Callable[[], bool]], Any]


def check(channel: grpc.aio.Channel, service: str) -> Any:
    return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))


async def test_during_propagation_calls_are_taken_and_health_tells(run_front: Run, eventually: Eventually) -> None:
    async with run_front(drain_propagation=1000.0) as running:
        running.front.stop.signal()
        await eventually(lambda: running.front.state.draining)
        async with grpc.aio.insecure_channel(running.control) as channel:
            assert (await check(channel, "")).status == health_pb2.HealthCheckResponse.SERVING
            assert (await check(channel, GENERATION)).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert (await stats_pb2_grpc.StatsServiceStub(channel).GetStats(GetStatsRequest())).stats.draining
        async with AsyncLeptonClient(running.target) as newcomer:
            assert (await newcomer.complete("hi", max_tokens=2)).choices[0].text == "ab"
            assert (await newcomer.get_model()).state == ModelState.MODEL_STATE_DRAINING
        assert not running.life.done()


async def test_running_streams_end_by_themselves_before_the_engine_does(run_front: Run, eventually: Eventually) -> None:
    async with run_front() as running:
        engine = running.engine
        engine.go.clear()
        stream = running.client.generate("hi", max_tokens=30)
        await stream.admitted()
        running.front.stop.signal()
        await eventually(lambda: running.front.inference.closing.is_set())
        assert not engine.ended
        async with grpc.aio.insecure_channel(running.control) as channel:
            stats = (await stats_pb2_grpc.StatsServiceStub(channel).GetStats(GetStatsRequest())).stats
            assert (stats.draining, stats.running) == (True, 1)
        engine.go.set()
        text = "".join([text async for text in stream.texts()])
        assert text == "abcdefghijklmnopqrstuvwxyzabcd"
        assert await running.life == EXIT_OK
        assert engine.ended


async def test_the_servers_own_streams_are_not_waited_for(run_front: Run) -> None:
    async with run_front(drain_timeout=1000.0) as running:
        for target in (running.target, running.control):
            channel = grpc.aio.insecure_channel(target)
            watch = stats_pb2_grpc.StatsServiceStub(channel).WatchStats(WatchStatsRequest())
            await watch.read()
            health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
            await health.read()
            reflection: Any = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")()
            await reflection.write(b"\x3a\x00")
            await reflection.read()
            if target == running.target:
                watched = watch
        running.front.stop.signal()
        last: Any = None
        while (response := await watched.read()) is not grpc.aio.EOF:
            last = response
        assert last is not None
        assert last.stats.draining
        assert await watched.code() == grpc.StatusCode.OK
        assert await running.life == EXIT_OK


async def test_a_stream_that_outlasts_the_timeout_is_cut(run_front: Run) -> None:
    async with run_front(drain_timeout=0.05) as running:
        running.engine.go.clear()
        stream = running.client.generate("hi", max_tokens=1)
        await stream.admitted()
        running.front.stop.signal()
        assert await running.life == EXIT_CUT_SHORT
        failed = False
        try:
            async for _ in stream:
                pass
        except LeptonClientError:
            failed = True
        assert failed
        assert running.engine.jobs == []


async def test_a_second_signal_ends_at_once(run_front: Run, eventually: Eventually) -> None:
    for propagation in (1000.0, 0.0):
        async with run_front(drain_propagation=propagation, drain_timeout=1000.0) as running:
            running.engine.go.clear()
            stream = running.client.generate("hi", max_tokens=1)
            await stream.admitted()
            running.front.stop.signal()
            await eventually(lambda: running.front.state.draining)
            running.front.stop.signal()
            assert await running.life == EXIT_CUT_SHORT
            assert running.engine.ended
            assert running.engine.jobs == []


async def test_a_stop_while_the_model_loads_ends_the_engine(run_front: Run, fake_engine: Any) -> None:
    engine = fake_engine()
    engine.loaded.clear()
    async with run_front(engine, ready=False) as running:
        running.front.stop.signal()
        assert await running.life == EXIT_OK
        assert engine.ended


async def test_calls_in_a_row_see_no_error_while_the_server_drains(run_front: Run) -> None:
    """Calls made before, during and after the drain either succeed, or never reached the server (GOAWAY)."""
    async with run_front(drain_propagation=0.2) as running:
        errors: list[str] = []
        done = 0

        async def caller() -> None:
            nonlocal done
            while not running.life.done():
                try:
                    await running.client.complete("hi", max_tokens=3)
                    done += 1
                except LeptonClientError as error:
                    if not running.front.inference.closing.is_set():
                        errors.append(str(error))

        callers = [asyncio.create_task(caller()) for _ in range(8)]
        while done < 50:  # noqa: ASYNC110 (counted by the callers)
            await asyncio.sleep(0.002)
        running.front.stop.signal()
        assert await running.life == EXIT_OK
        await asyncio.gather(*callers)
        assert errors == []
