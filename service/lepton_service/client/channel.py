"""The channel settings that Lepton publishes for its clients.

`service_config.json` beside this file is gRPC's service config, the same for every language: calls that were refused
before their response headers have computed nothing and are tried again, by the delay that the server names
(`grpc-retry-pushback-ms`), else by backoff; where many calls fail, retries stop (`retryThrottling`).
"""

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import grpc

KEEPALIVE_SECONDS = 20
KEEPALIVE_TIMEOUT_SECONDS = 10
MAX_RESPONSE_BYTES = 64 * 1024 * 1024

SERVICE_CONFIG: dict[str, Any] = json.loads(
    resources.files("lepton_service.client").joinpath("service_config.json").read_text(encoding="utf-8")
)


@dataclass(frozen=True)
class ChannelTLS:
    """TLS of a channel.

    Attributes:
        root_certificate: PEM file of the authority to trust; None trusts what the system does.
        certificate, key: PEM files of the client's own, for a server that asks for them.
        server_name: the name that the server's certificate must carry; None for the target's.
    """

    root_certificate: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """The same as gRPC takes it. Raises OSError when a file cannot be read."""
        read = [
            None if path is None else path.read_bytes() for path in (self.root_certificate, self.key, self.certificate)
        ]
        return grpc.ssl_channel_credentials(*read)


def channel_options(
    tls: ChannelTLS | None = None,
    keepalive: float = KEEPALIVE_SECONDS,
    keepalive_timeout: float = KEEPALIVE_TIMEOUT_SECONDS,
    retry: bool = True,
) -> list[tuple[str, int | str]]:
    """Channel arguments: keepalive that the server permits, retries, and room for large answers.

    Args:
        keepalive: seconds without data after which the server is pinged while a call runs.
        keepalive_timeout: seconds after which a server that does not answer is given up.
        retry: whether refused calls are tried again.
    """
    options: list[tuple[str, int | str]] = [
        ("grpc.keepalive_time_ms", round(keepalive * 1000)),
        # Both names: which one ends a connection whose ping is not answered depends on the version of Core.
        ("grpc.keepalive_timeout_ms", round(keepalive_timeout * 1000)),
        ("grpc.http2.ping_timeout_ms", round(keepalive_timeout * 1000)),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        ("grpc.enable_retries", int(retry)),
    ]
    if tls is not None and tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options
