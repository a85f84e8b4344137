"""Metrics of the operator, by OpenTelemetry: read as Prometheus text, and sent by OTLP where that is configured."""

import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping

import prometheus_client
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

from lepton_operator.settings import VERSION

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
Live = Mapping[tuple[str, str], tuple[int, float]]


class Telemetry:
    """The instruments.

    Args:
        queue_depth: gives the models that are due. leading: whether this process leads.
        live: gives desired replicas and load of the autoscaled models.
    """

    def __init__(self, queue_depth: Callable[[], int], leading: Callable[[], bool], live: Callable[[], Live]) -> None:
        self._registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self._registry)
        readers: list[MetricReader] = [PrometheusMetricReader(registry=self._registry), *_otlp()]
        self._provider = MeterProvider(
            metric_readers=readers,
            resource=Resource.create({"service.name": "lepton-operator", "service.version": VERSION}),
            views=[View(instrument_unit="s", aggregation=ExplicitBucketHistogramAggregation(_BUCKETS))],
        )
        meter = self._provider.get_meter("lepton.operator", VERSION)
        self._reconciliations = meter.create_counter(
            "lepton.operator.reconciliations", description="Reconciliations, by result."
        )
        self._duration = meter.create_histogram(
            "lepton.operator.reconcile.duration", "s", "Time of a reconciliation, by result."
        )
        self._waited = meter.create_histogram(
            "lepton.operator.queue.wait", "s", "Time from when a model is due to when its reconciliation begins."
        )
        self._calls = meter.create_counter(
            "lepton.operator.api.calls", description="Requests to the API server, by method, resource and status."
        )
        self._decisions = meter.create_counter(
            "lepton.operator.scaling.decisions", description="Changes of desired replicas, by direction."
        )

        def observe_queue(_: CallbackOptions) -> Iterable[Observation]:
            yield Observation(queue_depth())

        def observe_leading(_: CallbackOptions) -> Iterable[Observation]:
            yield Observation(int(leading()))

        def observe(index: int) -> Callable[[CallbackOptions], Iterable[Observation]]:
            def callback(_: CallbackOptions) -> Iterable[Observation]:
                for (namespace, name), values in live().items():
                    yield Observation(values[index], {"namespace": namespace, "model": name})

            return callback

        meter.create_observable_gauge(
            "lepton.operator.queue.depth", [observe_queue], description="Models that are due."
        )
        meter.create_observable_gauge(
            "lepton.operator.leading", [observe_leading], description="1 while this one leads."
        )
        meter.create_observable_gauge(
            "lepton.operator.scaling.desired", [observe(0)], description="Replicas that the load asks for, by model."
        )
        meter.create_observable_gauge(
            "lepton.operator.scaling.load", [observe(1)], description="Requests running, waiting and refused, by model."
        )

    def reconciled(self, result: str, seconds: float, waited: float) -> None:
        """A reconciliation ended: `success`, `retry` or `error`."""
        self._reconciliations.add(1, {"result": result})
        self._duration.record(seconds, {"result": result})
        self._waited.record(waited)

    def called(self, method: str, path: str, status: int) -> None:
        """A request to the API server was answered; status 0: it was not."""
        self._calls.add(1, {"method": method, "resource": resource_of(path), "status": str(status)})

    def scaled(self, before: int, after: int) -> None:
        """Desired replicas changed."""
        self._decisions.add(1, {"direction": "up" if after > before else "down"})

    def text(self) -> bytes:
        """All metrics in Prometheus' format."""
        return prometheus_client.generate_latest(self._registry)

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()


def resource_of(path: str) -> str:
    """The plural in a path of the API."""
    parts = path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    if len(rest) > 2 and rest[0] == "namespaces":
        rest = rest[2:]
    return rest[0] if rest else ""


def _otlp() -> list[MetricReader]:
    """The OTLP exporter, where OTEL_EXPORTER_OTLP_(METRICS_)ENDPOINT asks for it and the extra `otlp` is installed."""
    wanted = "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ or "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" in os.environ
    if not wanted or importlib.util.find_spec("opentelemetry.exporter.otlp") is None:
        return []
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    return [PeriodicExportingMetricReader(OTLPMetricExporter())]
