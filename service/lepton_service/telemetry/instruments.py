"""The metrics themselves: what is recorded of calls, and what is read when they are collected."""

from collections.abc import Callable, Iterable, Sequence

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource

from lepton_service.telemetry import names
from lepton_service.telemetry.figures import Figures
from lepton_service.telemetry.names import Metric
from lepton_service.telemetry.record import CallRecord

OTHER_TENANT = "other"
# Statuses that are the server's fault, by OpenTelemetry's conventions for gRPC.
SERVER_ERRORS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})

Attributes = dict[str, str]


class Instruments:
    """All metrics of a server.

    Args:
        readers: collect them. model: the server's only one, so that nothing that clients send becomes a label.
        tenants: are told apart; empty for none. figures: gives those that are not recorded.
    """

    def __init__(
        self,
        readers: Sequence[MetricReader],
        resource: Resource,
        model: str,
        tenants: Iterable[str],
        figures: Callable[[], Figures],
    ) -> None:
        self._provider = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
        self._meter = self._provider.get_meter("lepton")
        self._model = model
        self._tenants = frozenset(tenants)
        self._histograms = {metric: self._histogram(metric) for metric in names.CALLS if metric.buckets}
        self._requests = self._counter(names.REQUESTS)
        self._finishes = self._counter(names.FINISHES)
        for metric in (*names.STATE, *names.ENGINE):
            self._observe(metric, figures)

    def _histogram(self, metric: Metric) -> Histogram:
        return self._meter.create_histogram(
            metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=metric.buckets
        )

    def _counter(self, metric: Metric) -> Counter:
        return self._meter.create_counter(metric.name, metric.unit, metric.description)

    def _observe(self, metric: Metric, figures: Callable[[], Figures]) -> None:
        def callback(_: CallbackOptions) -> Iterable[Observation]:
            for attributes, value in figures().get(metric.name, {}).items():
                yield Observation(value, dict(attributes))

        create = (
            self._meter.create_observable_counter
            if metric.kind == names.COUNTER
            else self._meter.create_observable_gauge
        )
        create(metric.name, [callback], metric.unit, metric.description)

    def record(self, record: CallRecord) -> None:
        """A call has ended."""
        failed = {} if record.code == "OK" else {names.ERROR: record.code}
        self._histograms[names.RPC_DURATION].record(
            record.seconds,
            {
                names.RPC_SYSTEM: "grpc",
                names.RPC_METHOD: record.method,
                names.RPC_STATUS: record.code,
                **(failed if record.code in SERVER_ERRORS else {}),
            },
        )
        if record.operation:
            self._record_request(record, failed)

    def _record_request(self, record: CallRecord, failed: Attributes) -> None:
        asked = {names.OPERATION: record.operation, names.PROVIDER: "lepton", names.MODEL: self._model}
        tenant = self._tenant(record.tenant)
        self._requests.add(1, {**asked, names.RPC_STATUS: record.code, **tenant})
        self._histograms[names.REQUEST_DURATION].record(record.seconds, {**asked, **failed})
        for reason in record.finish_reasons:
            self._finishes.add(1, {**asked, "lepton.finish_reason": reason})
        if record.queue is None:
            return
        usage = self._histograms[names.TOKEN_USAGE]
        usage.record(record.prompt_tokens, {**asked, names.TOKEN_TYPE: "input", **tenant})
        usage.record(record.generated_tokens, {**asked, names.TOKEN_TYPE: "output", **tenant})
        measured: list[tuple[Metric, float | None]] = [
            (names.QUEUE, record.queue),
            (names.PREFILL, record.prefill),
            (names.REQUEST_ENERGY, record.joules),
        ]
        if not failed:
            measured += [
                (names.FIRST_TOKEN, record.first_token),
                (names.TOKEN_TIME, record.per_token),
                (names.DECODE, record.decode),
            ]
        for metric, value in measured:
            if value is not None:
                self._histograms[metric].record(value, asked)

    def _tenant(self, tenant: str) -> Attributes:
        if not self._tenants:
            return {}
        return {names.TENANT: tenant if tenant in self._tenants else OTHER_TENANT}

    def close(self) -> None:
        """Sends what is left; blocks."""
        self._provider.shutdown()
