"""A front end with telemetry before a fake engine, and an OTLP collector that keeps what it is sent."""

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc

from lepton_service.app import FrontEnd
from lepton_service.auth.options import AuthOptions
from lepton_service.client import AsyncLeptonClient
from lepton_service.options import ServerOptions
from lepton_service.telemetry.options import TelemetryOptions
from lepton_service.telemetry.telemetry import Telemetry


@dataclass
class Collector:
    """What an OTLP collector has been sent."""

    endpoint: str
    spans: list[Any] = field(default_factory=list)
    metrics: list[Any] = field(default_factory=list)

    def Export(self, request: Any, context: Any) -> Any:
        if isinstance(request, trace_pb2.ExportTraceServiceRequest):
            self.spans += [s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]
            return trace_pb2.ExportTraceServiceResponse()
        self.metrics += [m for r in request.resource_metrics for scope in r.scope_metrics for m in scope.metrics]
        return metrics_pb2.ExportMetricsServiceResponse()


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = grpc.server(ThreadPoolExecutor(2))
    found = Collector(f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    services: list[Any] = [
        trace_grpc.add_TraceServiceServicer_to_server,
        metrics_grpc.add_MetricsServiceServicer_to_server,
    ]
    for add in services:
        add(found, server)
    server.start()
    yield found
    server.stop(None)


@dataclass
class Observed:
    """A front end with telemetry."""

    front: FrontEnd
    telemetry: Telemetry
    engine: Any
    client: AsyncLeptonClient
    life: asyncio.Task[int]

    async def page(self, path: str = "/metrics") -> str:
        assert self.telemetry.page is not None
        url = f"http://127.0.0.1:{self.telemetry.page.port}{path}"
        return await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())

    async def end(self) -> int:
        self.front.stop.begin.set()
        return await self.life


Observe = Callable[..., Any]


@pytest.fixture
def observe(fake_engine: Any, eventually: Any) -> Observe:
    """A context manager: `async with observe(metrics_port=0) as observed`; index, engine, auth: the front end's."""

    @asynccontextmanager
    async def run(
        index: int = 0, engine: Any = None, auth: AuthOptions | None = None, **options: Any
    ) -> AsyncIterator[Observed]:
        made = engine or fake_engine()

        async def make_engine() -> Any:
            return made

        server = ServerOptions(port=0, control_port=0, auth=auth, drain_propagation=0.0, drain_timeout=30.0)
        front = FrontEnd(server, "fake-model", make_engine, index)
        telemetry = Telemetry(TelemetryOptions(**options), front.state, index)
        front.state.observer = telemetry
        front.attach(telemetry, last=True)
        await front.start()
        life = asyncio.create_task(front.run())
        assert front.inference is not None
        client = AsyncLeptonClient(f"127.0.0.1:{front.inference.port}", retry=False)
        try:
            await eventually(lambda: front.state.phase.name == "READY")
            yield Observed(front, telemetry, made, client, life)
        finally:
            await client.close()
            front.stop.signal()
            front.stop.signal()
            await life

    return run
