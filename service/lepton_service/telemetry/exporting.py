"""Sending by OTLP: to a collector that may not be there, of which one is told once."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

# These tell of every failed attempt.
_NOISY = ("opentelemetry.exporter.otlp", "opentelemetry.sdk._shared_internal", "opentelemetry.sdk.metrics")

_log = logging.getLogger("lepton.telemetry")


class Watch:
    """Tells when a collector is lost and when it is there again, once each."""

    def __init__(self, signal: str) -> None:
        self._signal = signal
        self._lost = False
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)

    def see(self, delivered: bool) -> None:
        """An export has ended."""
        if not delivered and not self._lost:
            _log.warning("%s cannot be sent to the OTLP collector; some are lost while this lasts", self._signal)
        elif delivered and self._lost:
            _log.info("%s are sent to the OTLP collector again", self._signal)
        self._lost = not delivered


class Spans(SpanExporter):
    """An exporter of spans that is watched."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._watch = Watch("traces")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends spans."""
        result = self._inner.export(spans)
        self._watch.see(result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        """Ends."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Sends what is left."""
        return self._inner.force_flush(timeout_millis)


class Metrics(MetricExporter):
    """An exporter of metrics that is watched."""

    def __init__(self, inner: MetricExporter) -> None:
        super().__init__(
            preferred_temporality=inner._preferred_temporality, preferred_aggregation=inner._preferred_aggregation
        )
        self._inner = inner
        self._watch = Watch("metrics")

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Sends metrics."""
        result = self._inner.export(metrics_data, timeout_millis, **kwargs)
        self._watch.see(result is MetricExportResult.SUCCESS)
        return result

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Ends."""
        self._inner.shutdown(timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Sends what is left."""
        return self._inner.force_flush(timeout_millis)


def span_exporter(endpoint: str | None) -> SpanExporter:
    """Sends spans to a collector; None for the one that the OTEL_* variables name."""
    return Spans(OTLPSpanExporter(endpoint=endpoint))


def metric_reader(endpoint: str | None) -> MetricReader:
    """Sends metrics at the interval of OTEL_METRIC_EXPORT_INTERVAL (a minute)."""
    return PeriodicExportingMetricReader(Metrics(OTLPMetricExporter(endpoint=endpoint)))


def resource(index: int) -> Resource:
    """What the telemetry is of; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before this.

    Args:
        index: number of the front end.
    """
    own = Resource({"service.name": "lepton", "lepton.front_end": index})
    given = Resource.create()
    named = given.attributes.get("service.name", "")
    if isinstance(named, str) and named.startswith("unknown_service"):
        return given.merge(own)
    return own.merge(given)


def within(seconds: float, work: Callable[[], None]) -> bool:
    """Runs blocking work in a thread of its own for so long at most; whether it has ended.

    The thread holds up no exit.
    """
    done = threading.Event()

    def run() -> None:
        try:
            work()
        finally:
            done.set()

    threading.Thread(target=run, name="lepton-telemetry-flush", daemon=True).start()
    return done.wait(seconds)
