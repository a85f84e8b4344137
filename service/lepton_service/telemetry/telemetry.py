"""Telemetry of a front end: what calls tell, on its way out."""

import asyncio
import logging
import os
from collections.abc import Iterable

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.trace import Span
from prometheus_client import CollectorRegistry, ProcessCollector

from lepton_service.calls import Call
from lepton_service.state import ServerState
from lepton_service.telemetry import names
from lepton_service.telemetry.channel import ADDRESS_VARIABLE, Collector, Sender
from lepton_service.telemetry.exporting import metric_reader, resource, span_exporter, within
from lepton_service.telemetry.figures import LiveFigures
from lepton_service.telemetry.instruments import Instruments
from lepton_service.telemetry.options import TelemetryOptions
from lepton_service.telemetry.page import MetricsPage
from lepton_service.telemetry.record import record_of
from lepton_service.telemetry.tracing import Tracing

FLUSH_SECONDS = 5.0

_log = logging.getLogger("lepton.serve")


class Telemetry:
    """An attachment that ends last, and what the interceptors tell calls to. Made in the event loop.

    Every front end sends its own spans. Metrics are the first one's: the others send it records of their calls.

    Attributes:
        page: the metrics port, where there is one.
    """

    def __init__(self, options: TelemetryOptions, state: ServerState, index: int = 0) -> None:
        self.page: MetricsPage | None = None
        described = resource(index)
        self._tracing = (
            Tracing(span_exporter(options.endpoint), described, state.model_name) if options.traces else None
        )
        self._instruments: Instruments | None = None
        self._collector: Collector | None = None
        self._sender: Sender | None = None
        if index:
            address = os.environ.get(ADDRESS_VARIABLE)
            self._sender = None if address is None else Sender(address)
        elif options.metrics or options.metrics_port is not None:
            self._count(options, state)

    def _count(self, options: TelemetryOptions, state: ServerState) -> None:
        readers: list[MetricReader] = [metric_reader(options.endpoint)] if options.metrics else []
        if options.metrics_port is not None:
            registry = CollectorRegistry()
            ProcessCollector(registry=registry)
            readers.append(PrometheusMetricReader(registry=registry, scope_info_enabled=False))
            self.page = MetricsPage(registry, options.metrics_host, options.metrics_port)
        counters = frozenset(metric.name for metric in names.ENGINE if metric.kind == names.COUNTER)
        figures = LiveFigures(state, counters)
        self._instruments = Instruments(readers, resource(0), state.model_name, options.tenants, figures.get)
        self._collector = Collector(self._instruments.record)

    async def start(self) -> None:
        """Opens the metrics port.

        Raises:
            PortInUseError.
        """
        if self.page is not None:
            self.page.start()
            _log.info("metrics on %s:%d", self.page.host, self.page.port)
        if self._collector is not None:
            self._collector.start()

    def begin(self, call: Call, metadata: Iterable[tuple[str, str | bytes]]) -> Span | None:
        """A call begins; what `end` is to be given."""
        return None if self._tracing is None else self._tracing.begin(call, metadata)

    def end(self, span: Span | None, call: Call, code: str, seconds: float) -> None:
        """A call has ended with a status, after so many seconds."""
        if span is not None and self._tracing is not None:
            self._tracing.end(span, call, code)
        if self._instruments is not None:
            self._instruments.record(record_of(call, code, seconds))
        elif self._sender is not None:
            self._sender.record(record_of(call, code, seconds))

    async def stop(self, grace: float) -> None:
        """Sends what is left, for a few seconds at most, and ends; may be called again."""
        tracing, self._tracing = self._tracing, None
        instruments, self._instruments = self._instruments, None
        collector, self._collector = self._collector, None
        sender, self._sender = self._sender, None
        page, self.page = self.page, None
        if sender is not None:
            sender.close()
        if collector is not None:
            await collector.close()
        loop = asyncio.get_running_loop()
        if page is not None:
            await loop.run_in_executor(None, page.close)
        closing = [one.close for one in (tracing, instruments) if one is not None]
        ended = await asyncio.gather(*(loop.run_in_executor(None, within, FLUSH_SECONDS, close) for close in closing))
        if not all(ended):
            _log.warning("telemetry: not all could be sent within %g s", FLUSH_SECONDS)
