"""A call that is cancelled, late or left releases what it held; a slow reader costs bounded memory."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from lepton.v1 import generation_pb2_grpc
from lepton_engine.errors import DeadlineExceededError as EngineDeadlineError
from lepton_service.client import AsyncLeptonClient, DeadlineExceededError, generate_request

Eventually = Callable[[Callable[[], bool]], Any]


async def all_free(running: Any) -> bool:
    stats = await running.client.stats()
    return bool(
        stats.running == 0 and stats.kv_blocks_free == stats.kv_blocks_total and stats.kv_blocks_referenced == 0
    )


async def until_free(running: Any) -> None:
    while not await all_free(running):  # noqa: ASYNC110 (asks the server)
        await asyncio.sleep(0.002)


async def test_cancelling_a_stream_frees_its_blocks(running: Any) -> None:
    stream = running.client.generate("hello", max_tokens=4000)
    async for _ in stream:
        break
    assert not await all_free(running) or running.engine.finished
    stream.cancel()
    await until_free(running)


async def test_cancelling_before_the_first_token_frees_too(running: Any) -> None:
    running.engine.go.clear()
    stream = running.client.generate("hello", max_tokens=4000)
    await stream.admitted()
    assert (await running.client.stats()).kv_blocks_referenced > 0
    stream.cancel()
    await until_free(running)
    assert running.engine.aborted == 1


async def test_cancelling_before_admission_frees_too(running: Any, eventually: Eventually) -> None:
    running.engine.admit.clear()
    stub = generation_pb2_grpc.GenerationServiceStub(running.client.channel)
    for method in (stub.Generate, stub.Complete):
        call: Any = method(generate_request("hi"))
        reader = asyncio.ensure_future(call.read() if hasattr(call, "read") else call)
        await eventually(lambda: len(running.engine.jobs) == 1)
        call.cancel()
        await asyncio.wait({reader})
        await until_free(running)
    assert running.engine.aborted == 2


async def test_a_unary_call_that_is_cancelled_frees_its_blocks(running: Any, eventually: Eventually) -> None:
    running.engine.go.clear()
    answer = asyncio.create_task(running.client.complete("hello", max_tokens=10))
    await eventually(lambda: len(running.engine.jobs) == 1)
    answer.cancel()
    await until_free(running)


async def test_a_closed_channel_frees_all_its_streams(running: Any, eventually: Eventually) -> None:
    running.engine.go.clear()
    other = AsyncLeptonClient(running.target)
    streams = [other.generate("hello", max_tokens=10) for _ in range(20)]
    await asyncio.gather(*(stream.admitted() for stream in streams))
    assert len(running.engine.jobs) == 20
    await other.close()
    await until_free(running)
    assert running.engine.aborted == 20


async def test_a_passed_deadline_frees_and_fails(running: Any) -> None:
    running.engine.go.clear()
    with pytest.raises(DeadlineExceededError):
        async for _ in running.client.generate("hello", max_tokens=10, deadline=0.05):
            pass
    await until_free(running)
    with pytest.raises(DeadlineExceededError):
        await running.client.complete("hello", max_tokens=10, deadline=0.05)
    await until_free(running)


async def test_a_deadline_that_has_passed_already_runs_nothing(running: Any) -> None:
    running.engine.go.clear()
    for deadline in (0.0, -1.0, 1e-9):
        for call in (running.client.complete("hi", deadline=deadline), running.client.score("hi", deadline=deadline)):
            with pytest.raises(DeadlineExceededError):
                await call
    await until_free(running)
    assert running.engine.finished == 0


async def test_a_deadline_that_the_engine_sees_first_has_its_details(running: Any) -> None:
    running.engine.refusal = EngineDeadlineError("the deadline has passed")
    with pytest.raises(DeadlineExceededError) as caught:
        await running.client.complete("hi", deadline=100)
    assert caught.value.reason == "DEADLINE_EXCEEDED"


async def test_a_coalesced_stream_that_is_cancelled_leaves_no_task(running: Any, eventually: Eventually) -> None:
    running.engine.go.clear()
    stream = running.client.generate("hello", max_tokens=100, coalesce_tokens=10)
    await stream.admitted()
    stream.cancel()
    await until_free(running)
    await eventually(lambda: running.front.inference.tracker.count == 0)
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    assert not [name for name in names if "Mailbox" in name or "_make" in name]


async def test_a_slow_readers_deltas_merge(run_front: Any, fake_engine: Any, eventually: Eventually) -> None:
    engine = fake_engine()
    engine.describe(max_model_len=1_000_000)
    tokens = 200_000
    async with run_front(engine) as running:
        window = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
        async with grpc.aio.insecure_channel(running.target, options=window) as channel:
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            call = stub.Generate(generate_request("hi", max_tokens=tokens))
            await call.initial_metadata()
            await eventually(lambda: engine.jobs[0].made == tokens)
            before = engine.outputs
            assert before < tokens / 20, "the reader has read nothing: the server must have stopped writing"
            text, messages = 0, 0
            async for event in call:
                if event.WhichOneof("event") == "delta":
                    text += len(event.delta.text)
                    messages += 1
            assert text == tokens
            assert messages < tokens / 20
        await until_free(running)


async def test_other_calls_go_on_beside_a_stalled_reader(running: Any) -> None:
    stalled = running.client.generate("hi", max_tokens=4000)
    await stalled.admitted()
    for _ in range(5):
        answer = await running.client.complete("hi", max_tokens=3)
        assert answer.choices[0].text == "abc"
    stalled.cancel()
    await until_free(running)
