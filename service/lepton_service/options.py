"""Settings of the gRPC server and what they become as channel arguments."""

from dataclasses import dataclass
from pathlib import Path

from lepton_service.auth.options import AuthOptions

INFERENCE_PORT = 50051
CONTROL_PORT = 50052
MAX_REQUEST_BYTES = 16 * 1024 * 1024
NO_LIMIT = 2**31 - 1  # Core's for a time in milliseconds


@dataclass(frozen=True)
class TLSFiles:
    """PEM files of the inference port.

    Attributes:
        certificate, key: the server's own. client_ca: when given, clients must show a certificate signed by it.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True)
class ServerOptions:
    """Where the server listens and within which limits. Times in seconds.

    Attributes:
        port, control_port: 0 takes a free one.
        tls: None serves plaintext. The control port is always plaintext.
        auth: what is asked of callers of the inference port; None serves everyone.
        drain_propagation: how long new calls are still taken after SIGTERM, while clients and endpoints learn.
        drain_timeout: how long running calls may take after that.
        max_stream_seconds: a stream ends with FINISH_REASON_TIME_LIMIT after this long; None for no bound.
        min_ping_interval: the shortest interval at which clients may send keepalive pings.
        keepalive_time, keepalive_timeout: a connection is pinged after this long without data, and is dead
            when the answer takes longer than the timeout.
        max_connection_age: a connection older than this (give or take a tenth) gets GOAWAY, so that its client connects
            anew and finds other servers; its calls go on to their end, however long. None keeps connections.
        reuse_port: the port is shared by several front ends of this server, which holds a `ReservedPort` of it.
    """

    host: str = "127.0.0.1"
    port: int = INFERENCE_PORT
    control_host: str = "127.0.0.1"
    control_port: int = CONTROL_PORT
    tls: TLSFiles | None = None
    auth: AuthOptions | None = None
    drain_propagation: float = 5.0
    drain_timeout: float = 60.0
    max_stream_seconds: float | None = None
    max_request_bytes: int = MAX_REQUEST_BYTES
    min_ping_interval: float = 5.0
    keepalive_time: float = 30.0
    keepalive_timeout: float = 20.0
    max_connection_age: float | None = 30.0
    reuse_port: bool = False


def channel_arguments(options: ServerOptions) -> list[tuple[str, int]]:
    """The arguments of a server. Tests assert each by what it does, since Core ignores names that it does not know."""
    age = NO_LIMIT if options.max_connection_age is None else round(options.max_connection_age * 1000)
    return [
        ("grpc.so_reuseport", int(options.reuse_port)),  # without it a port in use is an error, not a second listener
        ("grpc.max_receive_message_length", options.max_request_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.http2.min_ping_interval_without_data_ms", round(options.min_ping_interval * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", round(options.keepalive_time * 1000)),
        # Both names: which one ends a connection whose ping is not answered depends on the version of Core.
        ("grpc.keepalive_timeout_ms", round(options.keepalive_timeout * 1000)),
        ("grpc.http2.ping_timeout_ms", round(options.keepalive_timeout * 1000)),
        ("grpc.max_connection_age_ms", age),
        ("grpc.max_connection_age_grace_ms", NO_LIMIT),
        ("grpc.enable_channelz", 1),
    ]
