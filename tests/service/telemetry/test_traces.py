"""Spans as a collector gets them."""

from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider

from lepton_engine.errors import RequestFailedError
from lepton_engine.outputs import RequestMetrics
from lepton_engine.sampling_params import SamplingParams
from lepton_service.calls import Call
from lepton_service.client import AsyncLeptonClient, LeptonClientError
from lepton_service.client.tracing import trace_context
from lepton_service.telemetry import tracing
from tests.service.telemetry.conftest import Observe
from tests.service.telemetry.test_metrics import ask

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def value(attribute: Any) -> Any:
    kind = attribute.WhichOneof("value")
    found = getattr(attribute, kind)
    return [value(entry) for entry in found.values] if kind == "array_value" else found


def attributes(span: Any) -> dict[str, Any]:
    return {attribute.key: value(attribute.value) for attribute in span.attributes}


async def call_with(observed: Any, *metadata: tuple[str, str], **options: Any) -> None:
    target = f"127.0.0.1:{observed.front.inference.port}"
    async with AsyncLeptonClient(target, metadata=metadata, retry=False) as client:
        await ask(client, **options)


async def test_a_request_is_one_span_of_its_callers_trace(observe: Observe, collector: Any) -> None:
    async with observe(endpoint=collector.endpoint, traces=True) as observed:
        context = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "vendor=x"), ("baggage", "a=b"))
        await call_with(observed, *context, ("x-lepton-tenant", "t"), temperature=0.5, request_id="r1")
        assert await observed.end() == 0
    (span,) = collector.spans
    assert span.trace_id.hex() == TRACE
    assert span.parent_span_id.hex() == PARENT
    assert span.trace_state == "vendor=x"
    assert span.name == "lepton.v1.GenerationService/Generate"
    assert span.kind == span.SPAN_KIND_SERVER
    told = attributes(span)
    assert told.pop("network.peer.port") > 0
    assert told == {
        "rpc.system.name": "grpc",
        "rpc.method": "lepton.v1.GenerationService/Generate",
        "rpc.response.status_code": "OK",
        "network.peer.address": "127.0.0.1",
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "lepton",
        "gen_ai.request.model": "fake-model",
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.stream": True,
        "gen_ai.response.id": "r1",
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.input_tokens": 6,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.output_tokens": 5,
        "lepton.tenant": "t",
    }
    assert told.keys() <= tracing.ATTRIBUTES.keys()
    assert {event.name for event in span.events} == {
        "lepton.admitted", "lepton.scheduled", "lepton.first_token", "lepton.finished",
    }  # fmt: skip
    times = [event.time_unix_nano for event in span.events]
    assert times == sorted(times)


async def test_errors_of_the_server_mark_the_span(observe: Observe, collector: Any) -> None:
    async with observe(endpoint=collector.endpoint, traces=True) as observed:
        observed.engine.failure = RequestFailedError("broken")
        with pytest.raises(LeptonClientError) as caught:
            await ask(observed.client)
        with pytest.raises(LeptonClientError):
            await ask(observed.client, temperature=-1.0)
        await observed.end()
    assert caught.value.code is grpc.StatusCode.INTERNAL
    broken, refused = collector.spans
    assert attributes(broken)["error.type"] == "INTERNAL"
    assert broken.status.code == broken.status.STATUS_CODE_ERROR
    assert attributes(refused)["error.type"] == "INVALID_ARGUMENT"
    assert refused.status.code == refused.status.STATUS_CODE_UNSET


async def test_unsampled_callers_and_probes_send_nothing(observe: Observe, collector: Any) -> None:
    async with observe(endpoint=collector.endpoint, traces=True) as observed:
        await call_with(observed, ("traceparent", f"00-{TRACE}-{PARENT}-00"))
        await observed.client.stats()
        await observed.end()
    assert collector.spans == []


async def test_the_sampler_is_the_environments(
    observe: Observe, collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    async with observe(endpoint=collector.endpoint, traces=True) as observed:
        await ask(observed.client)
        await observed.end()
    assert collector.spans == []


@pytest.mark.parametrize("header", ["", "nonsense", f"00-{'0' * 32}-{PARENT}-01", "ff" * 500])
async def test_a_damaged_context_begins_a_trace_of_its_own(observe: Observe, collector: Any, header: str) -> None:
    async with observe(endpoint=collector.endpoint, traces=True) as observed:
        await call_with(observed, ("traceparent", header))
        await observed.end()
    (span,) = collector.spans
    assert span.parent_span_id == b""


async def test_a_collector_that_is_not_there_is_told_of_once_and_holds_nothing_up(
    observe: Observe, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    async with observe(endpoint="http://127.0.0.1:1", traces=True) as observed:
        await ask(observed.client, 60)
        processor = observed.telemetry._tracing._provider._active_span_processor._span_processors[0]
        assert len(processor._batch_processor._queue) <= 16
        assert await observed.end() == 0
    told = [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    assert len([line for line in told if "cannot be sent" in line]) == 1
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


async def test_the_clients_calls_carry_its_trace(observe: Observe, collector: Any) -> None:
    async with observe(endpoint=collector.endpoint, traces=True) as observed:
        with TracerProvider().get_tracer("test").start_as_current_span("caller") as caller:
            await ask(observed.client)
            assert trace_context()[0][0] == "traceparent"
        await observed.end()
    (span,) = collector.spans
    assert span.parent_span_id == caller.get_span_context().span_id.to_bytes(8, "big")


def test_without_a_trace_nothing_is_carried() -> None:
    assert trace_context() == ()


def test_preemptions_and_energy_are_told() -> None:
    times = RequestMetrics(1.0, 2.0, 4.0, 6.0, (3.0, 5.0), 0.25)
    call = Call("/m", "unix:", operation="chat", params=SamplingParams(n=2, top_k=4), metrics=times)
    call.finish_reasons = {1: "stop", 0: "length"}
    assert [name.removeprefix("lepton.") for name, _ in tracing.events(call)] == [
        "scheduled", "preempted", "first_token", "preempted", "finished",
    ]  # fmt: skip
    told = tracing.attributes(call, "OK")
    assert told["lepton.energy.joules"] == 0.25
    assert told["gen_ai.response.finish_reasons"] == ["length", "stop"]
    assert told["gen_ai.request.choice.count"] == 2
    assert told["gen_ai.request.top_k"] == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ipv4:10.0.0.1:4711", ("10.0.0.1", 4711)),
        ("ipv6:%5B::1%5D:80", ("::1", 80)),
        ("ipv6:[::1]:80", ("::1", 80)),
        ("unix:/run/x", ("unix:/run/x", None)),
        ("", (None, None)),
    ],
)
def test_peers(text: str, expected: tuple[str | None, int | None]) -> None:
    assert tracing.peer(text) == expected
