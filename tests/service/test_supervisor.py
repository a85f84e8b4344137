"""An engine that ends: calls get UNAVAILABLE, health turns, the engine is started again by the policy."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lepton.v1.stats_pb2 import GetStatsRequest
from lepton.v1.stats_pb2_grpc import StatsServiceStub
from lepton_engine.errors import EngineDeadError, ModelLoadError
from lepton_service.app import EXIT_CUT_SHORT, EXIT_FAILED
from lepton_service.client import UnavailableError
from lepton_service.health import GENERATION
from lepton_service.restarts import RestartPolicy
from lepton_service.state import Phase

Run = Callable[..., Any]
Eventually = Callable[[Callable[[], bool]], Any]
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def health(target: str, service: str = GENERATION) -> Any:
    async with grpc.aio.insecure_channel(target) as channel:
        return (await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))).status


def test_the_delay_doubles_to_its_bound_and_begins_anew_after_a_healthy_while() -> None:
    policy = RestartPolicy(first_delay=0.5, longest_delay=8.0, healthy_after=60.0)
    assert [policy.after_end(3.0) for _ in range(8)] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert policy.after_end(60.0) == 0.0
    assert policy.after_end(59.0) == 0.5


def test_starts_that_never_become_ready_are_counted_and_end_it() -> None:
    policy = RestartPolicy(max_failed_starts=3)
    assert [policy.after_end(None), policy.after_end(None)] == [0.0, 0.5]
    assert policy.after_end(1.0) == 1.0, "it was ready: the count begins anew"
    assert [policy.after_end(None) is None for _ in range(3)] == [False, False, True]


async def test_an_engine_that_dies_is_started_again(run_front: Run, eventually: Eventually) -> None:
    async with run_front() as running:
        state, engine = running.front.state, running.engine
        began = (await running.client.stats()).start_time
        engine.go.clear()
        stream = running.client.generate("hi", max_tokens=3)
        await stream.admitted()
        engine.loaded.clear()
        engine.failure = engine.dead = EngineDeadError("the engine process ended with exit code -9")
        engine.go.set()
        with pytest.raises(UnavailableError) as caught:
            async for _ in stream:
                pass
        assert caught.value.reason == "ENGINE_UNAVAILABLE"
        await eventually(lambda: state.phase is Phase.RESTARTING)
        assert await health(running.target) == NOT_SERVING
        assert await health(running.target, "") == SERVING
        for call in (running.client.complete("hi", max_tokens=1), running.client.stats()):
            with pytest.raises(UnavailableError) as caught:
                await call
            assert caught.value.retry_after is not None
        assert engine.ended, "what is left of the old one is put away first"
        engine.failure = engine.dead = None
        engine.loaded.set()
        await eventually(lambda: state.phase is Phase.READY)
        assert await health(running.target) == SERVING
        assert (await running.client.complete("hi", max_tokens=2)).choices[0].text == "ab"
        restarted = (await running.client.stats()).start_time
        assert restarted.ToNanoseconds() > began.ToNanoseconds(), "counters begin anew, start_time tells"


async def test_an_idle_engine_that_dies_is_noticed(run_front: Run, eventually: Eventually) -> None:
    async with run_front() as running:
        running.engine.loaded.clear()
        running.engine.dead = EngineDeadError("the engine process ended with exit code -11")
        await eventually(lambda: running.front.state.phase is Phase.RESTARTING)


async def test_an_engine_that_never_starts_again_ends_the_server(run_front: Run) -> None:
    async with run_front() as running:
        running.front.keeper._policy = RestartPolicy(first_delay=0.0, max_failed_starts=3)
        running.engine.load_error = ModelLoadError("model.safetensors: is missing")
        running.engine.dead = EngineDeadError("the engine process ended with exit code -9")
        assert await running.life == EXIT_FAILED
        assert "could not be started again" in str(running.front.failure)


async def test_a_process_that_dies_while_it_first_loads_is_started_again(
    run_front: Run, fake_engine: Any, eventually: Eventually
) -> None:
    engine = fake_engine()
    engine.load_error = EngineDeadError("the engine process ended with exit code -9")
    async with run_front(engine, ready=False) as running:
        await eventually(lambda: running.front.state.phase is Phase.RESTARTING)
        engine.load_error = None
        await eventually(lambda: running.front.state.phase is Phase.READY)


@pytest.mark.parametrize("signals", [1, 2])
async def test_signals_end_a_server_that_waits_to_start_its_engine_again(
    run_front: Run, eventually: Eventually, signals: int
) -> None:
    async with run_front(drain_propagation=0.0 if signals == 1 else 1000.0) as running:
        running.front.keeper._policy = RestartPolicy(first_delay=1000.0, longest_delay=1000.0, failures=1)
        running.engine.dead = EngineDeadError("the engine process ended with exit code -9")
        await eventually(lambda: running.front.state.phase is Phase.RESTARTING and running.engine.ended)
        for _ in range(signals):
            running.front.stop.signal()
        assert await running.life == (0 if signals == 1 else EXIT_CUT_SHORT)


async def test_an_engine_that_hangs_holds_up_neither_statistics_nor_health(
    run_front: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_front() as running:
        monkeypatch.setattr("lepton_service.state.ServerState.engine_stats.__defaults__", (0.05,))
        hang = asyncio.Event()
        monkeypatch.setattr(running.engine, "stats", hang.wait)
        async with grpc.aio.insecure_channel(running.control) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await StatsServiceStub(channel).GetStats(GetStatsRequest())
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "has not answered" in str(caught.value.details())
        assert await health(running.control) == SERVING


async def test_a_second_signal_kills_an_engine_that_hangs(
    run_front: Run, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    async with run_front() as running:
        killed, asked = asyncio.Event(), asyncio.Event()

        async def shutdown() -> None:
            asked.set()
            await killed.wait()

        monkeypatch.setattr(running.engine, "shutdown", shutdown)
        monkeypatch.setattr(running.engine, "kill", killed.set)
        running.front.stop.signal()
        await asked.wait()
        running.front.stop.signal()
        await running.life
        assert killed.is_set()
