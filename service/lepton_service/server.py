"""The two gRPC servers of a front end: inference and control."""

import asyncio
from collections.abc import Callable

import grpc
from google.protobuf import descriptor_pool
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lepton.v1 import generation_pb2_grpc, model_pb2_grpc, scoring_pb2_grpc, stats_pb2_grpc, tokenization_pb2_grpc
from lepton_service.auth.authenticator import Authenticator
from lepton_service.calls import CallTracker
from lepton_service.health import SERVICES, STATS
from lepton_service.interceptors.access_log import AccessLogInterceptor
from lepton_service.interceptors.authentication import AuthenticationInterceptor
from lepton_service.interceptors.errors import ErrorInterceptor
from lepton_service.interceptors.load_reports import LoadReportInterceptor, LoadReports
from lepton_service.interceptors.telemetry import TelemetryInterceptor
from lepton_service.interceptors.tracking import TrackingInterceptor
from lepton_service.options import ServerOptions, channel_arguments
from lepton_service.servicers.generation import GenerationServicer
from lepton_service.servicers.health import HealthServicer
from lepton_service.servicers.model import ModelServicer
from lepton_service.servicers.reflection import ALPHA, V1, ReflectionServicer, register_v1
from lepton_service.servicers.scoring import ScoringServicer
from lepton_service.servicers.stats import StatsServicer
from lepton_service.servicers.tokenization import TokenizationServicer
from lepton_service.state import ServerState
from lepton_service.tls import ServerTLS

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

CHANNELZ = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name


def served_methods() -> frozenset[str]:
    """Paths of all methods that a front end has, on any port."""
    register_v1()
    pool = descriptor_pool.Default()
    services = (*SERVICES, HEALTH, CHANNELZ, ALPHA, V1)
    return frozenset(f"/{name}/{method.name}" for name in services for method in pool.FindServiceByName(name).methods)


class PortInUseError(Exception):
    """An address that cannot be listened on."""


class Listener:
    """One gRPC server on one address.

    Attributes:
        port: where it listens, known once `bind` has returned.
        tracker: the calls in flight. interceptors: outermost first; calls of the HTTP port go through them, too.
        authentication: which of them asks who calls; None where everyone may. tls: None for plaintext.
        tells_connections: whether it serves channelz, which names the peers of all ports: where callers are asked who
            they are, only to them.
        closing: set when the server is to end its own streams (watches, reflection).
    """

    def __init__(
        self,
        state: ServerState,
        options: ServerOptions,
        on_error: Callable[[Exception], None],
        authenticator: Authenticator | None = None,
    ) -> None:
        self.port = 0
        self.tls: ServerTLS | None = None
        self.tracker = CallTracker()
        self.closing = asyncio.Event()
        self.state = state
        observer = state.observer
        self.interceptors: list[grpc.aio.ServerInterceptor] = [
            AccessLogInterceptor(),
            *(() if observer is None else (TelemetryInterceptor(observer, served_methods()),)),
            TrackingInterceptor(self.tracker),
            ErrorInterceptor(on_error),
        ]
        self.authentication = None if authenticator is None else AuthenticationInterceptor(authenticator)
        if self.authentication is not None:
            self.interceptors.append(self.authentication)
        self.interceptors.append(LoadReportInterceptor(LoadReports(state.engine_stats)))
        self.server = grpc.aio.server(
            interceptors=self.interceptors,
            options=channel_arguments(options),
        )
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(state.health, self.closing), self.server)
        stats_pb2_grpc.add_StatsServiceServicer_to_server(StatsServicer(state, self.closing), self.server)
        self.tells_connections = authenticator is not None or options.auth is None
        if self.tells_connections:
            channelz.add_channelz_servicer(self.server)

    def reflect(self, services: tuple[str, ...]) -> None:
        """Serves reflection of these services, of health and of reflection itself."""
        register_v1()
        listed = (*services, HEALTH, *((CHANNELZ,) if self.tells_connections else ()), ALPHA, V1)
        self.server.add_generic_rpc_handlers(ReflectionServicer(listed, self.closing).handlers())

    def bind(self, host: str, port: int, credentials: grpc.ServerCredentials | None) -> None:
        """Listens on an address.

        Raises:
            PortInUseError: it is taken, or is no address of this machine.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if credentials is None:
                self.port = self.server.add_insecure_port(address)
            else:
                self.port = self.server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise PortInUseError(
                f"cannot listen on {address}: the port is in use or the address is not ours"
            ) from error
        if self.port == 0:
            raise PortInUseError(f"cannot listen on {address}: the port is in use or the address is not ours")

    async def start(self) -> None:
        """Begins to take calls."""
        await self.server.start()

    async def stop(self, grace: float) -> bool:
        """Ends the server's own streams, sends GOAWAY, and waits `grace` seconds at most for the other calls.

        Returns:
            Whether they all ended by themselves; those that did not are cancelled.
        """
        self.closing.set()
        stopping = asyncio.ensure_future(self.server.stop(grace))
        try:
            async with asyncio.timeout(grace):
                await self.tracker.idle()
            clean = True
        except TimeoutError:
            clean = False
        await stopping
        return clean

    async def cancel(self) -> None:
        """Cancels all calls and ends, also while `stop` waits."""
        self.closing.set()
        await self.server.stop(None)


def inference_listener(state: ServerState, options: ServerOptions, on_error: Callable[[Exception], None]) -> Listener:
    """The server that clients call, bound but not started.

    Raises:
        PortInUseError, TLSError, AuthConfigError.
    """
    tls = None if options.tls is None else ServerTLS(options.tls)
    authenticator = None if options.auth is None else options.auth.authenticator()
    listener = Listener(state, options, on_error, authenticator)
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(GenerationServicer(state), listener.server)
    scoring_pb2_grpc.add_ScoringServiceServicer_to_server(ScoringServicer(state), listener.server)
    tokenization_pb2_grpc.add_TokenizationServiceServicer_to_server(TokenizationServicer(state), listener.server)
    model_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(state), listener.server)
    listener.reflect(SERVICES)
    listener.tls = tls
    listener.bind(options.host, options.port, None if tls is None else tls.credentials())
    return listener


def control_listener(state: ServerState, options: ServerOptions, on_error: Callable[[Exception], None]) -> Listener:
    """The plaintext server that kubelet and the operator call, bound but not started.

    Raises:
        PortInUseError.
    """
    listener = Listener(state, options, on_error)
    listener.reflect((STATS,))
    listener.bind(options.control_host, options.control_port, None)
    return listener
