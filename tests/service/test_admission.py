"""Refusals as a client sees them: status, reason, details, and that nothing was sent before."""

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from lepton.v1 import generation_pb2_grpc
from lepton.v1.generation_pb2 import GenerateRequest
from lepton_engine.errors import (
    AdmissionError,
    DeadlineUnattainableError,
    QueueFullError,
    QueueTimeoutError,
    TenantConcurrencyError,
    TenantQueueFullError,
    TenantTokenRateError,
)
from lepton_service.client import AsyncLeptonClient, DeadlineExceededError, InvalidArgumentError, ResourceExhaustedError

REFUSALS: list[tuple[AdmissionError, str, float | None]] = [
    (QueueFullError("the queue is full", 2.5), "QUEUE_FULL", 2.5),
    (QueueFullError("the queue is full"), "QUEUE_FULL", 1.0),
    (QueueTimeoutError("it waited", 3.0), "QUEUE_TIMEOUT", 3.0),
    (DeadlineUnattainableError("too slow", 4.0, {"estimate_seconds": "5.000"}), "DEADLINE_UNATTAINABLE", 4.0),
    (DeadlineUnattainableError("too slow"), "DEADLINE_UNATTAINABLE", None),
    (TenantConcurrencyError("too many", 0.5, {"tenant": "a"}), "TENANT_CONCURRENCY_EXCEEDED", 0.5),
    (TenantQueueFullError("too many", 0.5, {"tenant": "a"}), "TENANT_QUEUE_FULL", 0.5),
    (TenantTokenRateError("too many", 30.0, {"tenant": "a", "limit": "9"}), "TENANT_TOKEN_RATE_EXCEEDED", 30.0),
]


@pytest.mark.parametrize(("refusal", "reason", "delay"), REFUSALS, ids=lambda value: str(value))
async def test_a_refusal_has_a_reason_figures_and_a_delay_where_waiting_helps(
    running: Any, refusal: AdmissionError, reason: str, delay: float | None
) -> None:
    running.engine.refusal = refusal
    stub = generation_pb2_grpc.GenerationServiceStub(running.client.channel)
    call = stub.Generate(GenerateRequest(text="hello"))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    error = raised.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == str(refusal)
    # A response without headers is what retry policies of clients work on: nothing has been committed.
    assert not await call.initial_metadata()
    trailers = dict(error.trailing_metadata())
    status = Status.FromString(trailers["grpc-status-details-bin"])
    infos = [ErrorInfo.FromString(d.value) for d in status.details if d.Is(ErrorInfo.DESCRIPTOR)]
    assert [(info.reason, info.domain, dict(info.metadata)) for info in infos] == [
        (reason, "lepton.dev", refusal.details)
    ]
    retries = [RetryInfo.FromString(d.value) for d in status.details if d.Is(RetryInfo.DESCRIPTOR)]
    told = [retry.retry_delay.ToMilliseconds() / 1000 for retry in retries]
    assert told == ([] if delay is None else [delay])
    assert trailers["grpc-retry-pushback-ms"] == ("-1" if delay is None else str(round(delay * 1000)))


async def test_headers_come_only_after_admission(running: Any, eventually: Any) -> None:
    running.engine.admit.clear()
    stream = running.client.generate("hello", max_tokens=2)
    admitted = asyncio.create_task(stream.admitted())
    await eventually(lambda: running.engine.seen)
    for _ in range(3):
        await running.client.get_model()  # Whatever was sent before on the connection has come by then.
    assert not admitted.done()
    running.engine.admit.set()
    await admitted
    assert [event async for event in stream]


@pytest.mark.parametrize(("seconds", "message"), [(0.0, "0 s is not above 0"), (-1.5, "is not above 0")])
async def test_a_time_in_the_queue_that_is_none(running: Any, seconds: float, message: str) -> None:
    request = GenerateRequest(text="hello")
    request.max_queue_time.FromMilliseconds(round(seconds * 1000))
    with pytest.raises(InvalidArgumentError, match=message) as raised:
        async for _ in running.client.generate_from(request):
            pass
    assert [violation.field for violation in raised.value.violations] == ["max_queue_time"]


async def test_the_time_in_the_queue_reaches_the_engine(running: Any) -> None:
    await running.client.complete("hello", max_tokens=1, max_queue_time=2.5)
    await running.client.complete("hello", max_tokens=1)
    await running.client.score("hello", max_queue_time=1.5)
    assert [job.options["max_queue_time"] for job in running.engine.seen] == [2.5, None, 1.5]


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-9])
async def test_a_deadline_that_has_passed_fails_and_leaves_nothing(
    running: Any, eventually: Any, seconds: float
) -> None:
    with pytest.raises(DeadlineExceededError):
        await running.client.complete("hello", deadline=seconds)
    await eventually(lambda: not running.engine.jobs)  # The client's own deadline may come before the server's answer.


async def test_the_model_tells_how_long_a_request_may_wait(running: Any) -> None:
    assert not (await running.client.get_model()).limits.HasField("max_queue_time")
    running.engine.describe(max_queue_time=12.5)
    assert (await running.client.get_model()).limits.max_queue_time.ToMilliseconds() == 12500


@pytest.mark.parametrize(
    ("refusal", "calls"), [(QueueFullError("full", 0.01), 3), (DeadlineUnattainableError("too slow"), 1)]
)
async def test_the_published_policy_tries_again_what_waiting_helps(
    running: Any, monkeypatch: pytest.MonkeyPatch, refusal: AdmissionError, calls: int
) -> None:
    asked = 0
    generate = running.engine.generate

    def refuse_twice(*args: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        running.engine.refusal = refusal if asked < 3 else None
        return generate(*args, **options)

    monkeypatch.setattr(running.engine, "generate", refuse_twice)
    async with AsyncLeptonClient(running.target) as client:
        if calls == 3:
            assert [event async for event in client.generate("hello", max_tokens=2)]
        else:
            with pytest.raises(ResourceExhaustedError, match="too slow"):
                await client.complete("hello")
    assert asked == calls
