"""Settings of telemetry. Imports no OpenTelemetry."""

import argparse
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass

from lepton_service.commands.arguments import port

METRICS_PORT = 9090
MAX_TENANTS = 100
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@dataclass(frozen=True)
class TelemetryOptions:
    """What is recorded, and where it goes.

    Attributes:
        metrics_port: of the Prometheus page; 0 takes a free one, None serves none.
        endpoint: URL of an OTLP collector (gRPC); None leaves it to the OTEL_* variables.
        traces, metrics: whether they are sent by OTLP.
        tenants: tenants whose requests are told apart in metrics; all others count as `other`.
    """

    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    endpoint: str | None = None
    traces: bool = False
    metrics: bool = False
    tenants: tuple[str, ...] = ()


def add_telemetry_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of telemetry."""
    group = parser.add_argument_group("telemetry")
    group.add_argument(
        "--metrics-port",
        type=port,
        nargs="?",
        const=METRICS_PORT,
        metavar="PORT",
        help=f"serve metrics to Prometheus here, 0 for a free port (default: off; {METRICS_PORT} without a value)",
    )
    group.add_argument(
        "--metrics-host", default="127.0.0.1", metavar="HOST", help="address of the metrics port (default: 127.0.0.1)"
    )
    group.add_argument(
        "--metrics-tenant",
        action="append",
        default=[],
        metavar="TENANT",
        help="tell this tenant's requests apart in metrics; may be repeated (default: tenants are not told apart)",
    )
    group.add_argument(
        "--otlp-endpoint",
        metavar="URL",
        help=f"send traces and metrics to this OpenTelemetry collector by OTLP over gRPC (default: {ENDPOINT})",
    )
    group.add_argument(
        "--log-format", default=None, choices=["text", "json"], help="text, or one JSON object a line (default: text)"
    )


def telemetry_options(args: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> TelemetryOptions | None:
    """The settings from the command line and the OTEL_* variables; None where nothing is asked for.

    Raises:
        ValueError: flags or variables that do not go together, or a missing package.
    """
    if args.metrics_tenant and args.metrics_port is None and args.otlp_endpoint is None and ENDPOINT not in environment:
        raise ValueError("--metrics-tenant needs --metrics-port or --otlp-endpoint")
    if len(args.metrics_tenant) > MAX_TENANTS:
        raise ValueError(f"--metrics-tenant: {len(args.metrics_tenant)} tenants, allowed are {MAX_TENANTS}")
    endpoint = args.otlp_endpoint
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise ValueError(f"--otlp-endpoint: {endpoint!r} is no URL, allowed is http://HOST:PORT or https://HOST:PORT")
    traces, metrics = (_sent(signal, endpoint, environment) for signal in ("traces", "metrics"))
    if not traces and not metrics and args.metrics_port is None:
        return None
    for package in ("opentelemetry.sdk", "opentelemetry.exporter.prometheus", "opentelemetry.exporter.otlp"):
        if not _installed(package):
            raise ValueError(f"telemetry needs {package}: install lepton-service with the extra `telemetry`")
    return TelemetryOptions(
        args.metrics_port, args.metrics_host, endpoint, traces, metrics, tuple(dict.fromkeys(args.metrics_tenant))
    )


def _sent(signal: str, endpoint: str | None, environment: Mapping[str, str]) -> bool:
    """Whether a signal is sent by OTLP, by OpenTelemetry's own rules for its variables."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
    if endpoint is None and not environment.get(ENDPOINT) and not environment.get(own):
        return False
    name = f"OTEL_{signal.upper()}_EXPORTER"
    exporter = environment.get(name, "").strip() or "otlp"
    if exporter not in ("otlp", "none"):
        raise ValueError(f"{name}: {exporter!r} is not supported, allowed is otlp or none")
    for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environment.get(variable, "").strip()
        if protocol not in ("", "grpc") and exporter == "otlp":
            raise ValueError(f"{variable}: {protocol!r} is not supported, allowed is grpc")
    return exporter == "otlp"


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False
