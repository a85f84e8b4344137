"""Flags and variables of telemetry, and what is refused."""

import argparse

import pytest

from lepton_service.telemetry.options import TelemetryOptions, add_telemetry_arguments, telemetry_options

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}


def options(*flags: str, **environment: str) -> TelemetryOptions | None:
    parser = argparse.ArgumentParser()
    add_telemetry_arguments(parser)
    return telemetry_options(parser.parse_args(flags), environment)


def test_off_unless_asked_for() -> None:
    assert options() is None
    assert options(OTEL_EXPORTER_OTLP_ENDPOINT="") is None
    assert options(**ENDPOINT, OTEL_SDK_DISABLED="true") is None
    assert options(**ENDPOINT, OTEL_TRACES_EXPORTER="none", OTEL_METRICS_EXPORTER="none") is None


def test_what_is_asked_for() -> None:
    assert options("--metrics-port") == TelemetryOptions(9090)
    assert options("--metrics-port", "0", "--metrics-host", "::1") == TelemetryOptions(0, "::1")
    assert options(**ENDPOINT) == TelemetryOptions(traces=True, metrics=True)
    assert options(**ENDPOINT, OTEL_METRICS_EXPORTER="none") == TelemetryOptions(traces=True)
    assert options(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://x:1") == TelemetryOptions(traces=True)
    found = options("--otlp-endpoint", "https://x:1", "--metrics-tenant", "a", "--metrics-tenant", "a")
    assert found == TelemetryOptions(endpoint="https://x:1", traces=True, metrics=True, tenants=("a",))


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        (["--otlp-endpoint", "collector:4317"], {}, "'collector:4317' is no URL, allowed is http://HOST:PORT"),
        (["--metrics-tenant", "a"], {}, "needs --metrics-port or --otlp-endpoint"),
        (["--metrics-port"] + ["--metrics-tenant=a"] * 101, {}, "101 tenants, allowed are 100"),
        ([], {**ENDPOINT, "OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: 'zipkin' is not supported"),
        ([], {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "'http/json' is not supported, allowed is grpc"),
    ],
)
def test_bad_input(flags: list[str], environment: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options(*flags, **environment)


@pytest.mark.parametrize("value", ["-1", "70000", "x"])
def test_a_port_that_is_none(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options(f"--metrics-port={value}")
    assert value in capsys.readouterr().err


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lepton_service.telemetry.options._installed", lambda package: False)
    with pytest.raises(ValueError, match="install lepton-service with the extra `telemetry`"):
        options("--metrics-port")
