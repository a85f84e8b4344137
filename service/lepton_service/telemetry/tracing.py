"""One span a request, in the trace of its caller. Everything is set at its end: nothing is done a token."""

from collections.abc import Iterable

from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from lepton_engine.sampling_params import SamplingParams
from lepton_service.calls import Call
from lepton_service.telemetry.instruments import SERVER_ERRORS

SERVICES = ("/lepton.v1.",)
UNTRACED = ("/lepton.v1.StatsService/",)

# Attributes of a span, and what they say.
ATTRIBUTES = {
    "rpc.system.name": "grpc, also for calls of the HTTP port, which go the same way",
    "rpc.method": "the method's full name",
    "rpc.response.status_code": "gRPC status",
    "error.type": "the status, where it is not OK",
    "network.peer.address": "the caller's address",
    "network.peer.port": "the caller's port",
    "gen_ai.operation.name": "chat, text_completion or score",
    "gen_ai.provider.name": "lepton",
    "gen_ai.request.model": "name of the model",
    "gen_ai.request.max_tokens": "bound of generated tokens, where the request has one",
    "gen_ai.request.temperature": "temperature",
    "gen_ai.request.top_p": "top_p",
    "gen_ai.request.top_k": "top_k, where it is bounded",
    "gen_ai.request.presence_penalty": "presence penalty, where there is one",
    "gen_ai.request.frequency_penalty": "frequency penalty, where there is one",
    "gen_ai.request.choice.count": "choices, where there are several",
    "gen_ai.request.stream": "whether the answer is a stream",
    "gen_ai.response.id": "id of the request",
    "gen_ai.response.finish_reasons": "why the choices ended, by index",
    "gen_ai.usage.input_tokens": "tokens of the prompt",
    "gen_ai.usage.cache_read.input_tokens": "of these, found in the prefix cache",
    "gen_ai.usage.output_tokens": "tokens generated",
    "lepton.tenant": "whose request it is",
    "lepton.energy.joules": "energy that was spent for it, where it is measured",
}
# Events of a span, at the times of the engine's own clock.
EVENTS = {
    "lepton.admitted": "the engine has taken the request in: it waits, or runs (streams only)",
    "lepton.scheduled": "the first step begins to compute the prompt",
    "lepton.first_token": "the prompt is computed, decoding begins",
    "lepton.preempted": "its memory was given to others; it is computed again",
    "lepton.finished": "the last token",
}


class Tracing:
    """Spans of the requests of one front end.

    Args:
        exporter: takes them. model: the server's only one.
    """

    def __init__(self, exporter: SpanExporter, resource: Resource, model: str) -> None:
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("lepton")
        self._model = model

    def begin(self, call: Call, metadata: Iterable[tuple[str, str | bytes]]) -> Span | None:
        """A call begins; None for those that are not traced.

        Args:
            metadata: brings the caller's context: traceparent, tracestate, baggage.
        """
        if not call.method.startswith(SERVICES) or call.method.startswith(UNTRACED):
            return None
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        method = call.method.removeprefix("/")
        span = self._tracer.start_span(
            method,
            extract(carrier),
            SpanKind.SERVER,
            {"rpc.system.name": "grpc", "rpc.method": method, "gen_ai.request.model": self._model},
        )
        call.trace_id = f"{span.get_span_context().trace_id:032x}"
        return span

    def end(self, span: Span, call: Call, code: str) -> None:
        """The call has ended with a status."""
        if span.is_recording():
            span.set_attributes(attributes(call, code))
            for name, at in events(call):
                span.add_event(name, timestamp=round(at * 1e9))
            if code in SERVER_ERRORS:
                span.set_status(Status(StatusCode.ERROR))
        span.end()

    def close(self) -> None:
        """Sends what is left; blocks."""
        self._provider.shutdown()


def attributes(call: Call, code: str) -> dict[str, AttributeValue]:
    """What a span tells of a call that has ended."""
    address, port = peer(call.peer)
    told: dict[str, AttributeValue | None] = {
        "rpc.response.status_code": code,
        "error.type": None if code == "OK" else code,
        "network.peer.address": address,
        "network.peer.port": port,
        "lepton.tenant": call.tenant or None,
    }
    if call.operation:
        told.update(_of_request(call))
    if call.params is not None:
        told.update(_of_params(call.params))
    return {key: value for key, value in told.items() if value is not None}


def _of_request(call: Call) -> dict[str, AttributeValue | None]:
    return {
        "gen_ai.operation.name": call.operation,
        "gen_ai.provider.name": "lepton",
        "gen_ai.request.stream": call.streamed,
        "gen_ai.response.id": call.request_id or None,
        "gen_ai.response.finish_reasons": [call.finish_reasons[index] for index in sorted(call.finish_reasons)] or None,
        "gen_ai.usage.input_tokens": call.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": call.cached_tokens,
        "gen_ai.usage.output_tokens": call.generated_tokens,
        "lepton.energy.joules": None if call.metrics is None else call.metrics.joules,
    }


def _of_params(params: SamplingParams) -> dict[str, AttributeValue | None]:
    return {
        "gen_ai.request.max_tokens": params.max_tokens,
        "gen_ai.request.temperature": params.temperature,
        "gen_ai.request.top_p": params.top_p,
        "gen_ai.request.top_k": params.top_k if params.top_k > 0 else None,
        "gen_ai.request.presence_penalty": params.presence_penalty or None,
        "gen_ai.request.frequency_penalty": params.frequency_penalty or None,
        "gen_ai.request.choice.count": params.n if params.n > 1 else None,
    }


def events(call: Call) -> list[tuple[str, float]]:
    """What happened to a request and when, in seconds since the epoch, in order."""
    found = [("lepton.admitted", call.admitted)]
    times = call.metrics
    if times is not None:
        found += [("lepton.scheduled", times.first_scheduled_time), ("lepton.first_token", times.first_token_time)]
        found += [("lepton.preempted", at) for at in times.preemption_times]
        found.append(("lepton.finished", times.finished_time if call.finish_reasons else None))
    return sorted(((name, at) for name, at in found if at is not None), key=lambda event: event[1])


def peer(text: str) -> tuple[str | None, int | None]:
    """Address and port of a caller, from gRPC's form of it: `ipv4:127.0.0.1:4711`, `ipv6:%5B::1%5D:4711`."""
    kind, _, rest = text.partition(":")
    address, _, port = rest.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdigit():
        return text or None, None
    return address.replace("%5B", "").replace("%5D", "").strip("[]"), int(port)
