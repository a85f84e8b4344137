"""The Grafana dashboard; `python -m lepton_service.telemetry.dashboard` prints what dashboards/lepton.json holds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lepton_service.telemetry import names
from lepton_service.telemetry.names import CALLS, ENGINE, STATE, Metric

FILE = Path(__file__).parent / "dashboards" / "lepton.json"
SCHEMA_VERSION = 39  # Grafana 10 and later
WIDTH, HEIGHT, COLUMNS = 8, 8, 3

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SELECTOR = '{namespace=~"$namespace", pod=~"$pod"}'
_BY_NAME = {metric.name: metric.prometheus for metric in (*CALLS, *STATE, *ENGINE)}

_FAILED = 'rpc_response_status_code!="OK"'
_GENERATED = 'gen_ai_token_type="output"'

Query = tuple[str, str]


def _series(name: str, more: str = "", suffix: str = "") -> str:
    selector = _SELECTOR if not more else _SELECTOR[:-1] + f", {more}}}"
    return f"{_BY_NAME[name]}{suffix}{selector}"


def _rate(name: str, by: str = "", more: str = "", suffix: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({_series(name, more, suffix)}[$__rate_interval]))"


def _quantiles(metric: Metric) -> list[Query]:
    rate = _rate(metric.name, "le", suffix="_bucket")
    return [(f"histogram_quantile({q}, {rate})", f"p{round(q * 100)}") for q in (0.5, 0.9, 0.99)]


def _gauge(name: str, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} ({_series(name)})"


def panels() -> list[tuple[str, str, list[Query]]]:
    """Title, unit and queries of every panel."""
    return [
        ("Requests", "reqps", [(_rate("lepton.requests", "rpc_response_status_code"), "{{rpc_response_status_code}}")]),
        (
            "Errors",
            "percentunit",
            [
                (
                    f"{_rate('lepton.requests', more=_FAILED)} / {_rate('lepton.requests')}",
                    "share of requests",
                )
            ],
        ),
        (
            "Calls by method",
            "reqps",
            [(_rate("rpc.server.call.duration", "rpc_method", suffix="_count"), "{{rpc_method}}")],
        ),
        ("Time to first token", "s", _quantiles(names.FIRST_TOKEN)),
        ("Time per output token", "s", _quantiles(names.TOKEN_TIME)),
        ("Duration of requests", "s", _quantiles(names.REQUEST_DURATION)),
        ("Time in the queue", "s", _quantiles(names.QUEUE)),
        (
            "Running and waiting",
            "short",
            [(_gauge("lepton.engine.running"), "running"), (_gauge("lepton.engine.waiting"), "waiting")],
        ),
        ("Waiting prompt tokens", "short", [(_gauge("lepton.engine.waiting_tokens"), "tokens")]),
        (
            "KV cache in use",
            "percentunit",
            [(f"max by (pod) ({_series('lepton.kv_cache.usage')})", "{{pod}}")],
        ),
        (
            "Prefix cache hits",
            "percentunit",
            [
                (
                    f"{_rate('lepton.prefix_cache.hit_tokens')} / {_rate('lepton.prefix_cache.queried_tokens')}",
                    "share of prompt tokens",
                )
            ],
        ),
        ("Tokens", "short", [(_rate("lepton.engine.tokens", "gen_ai_token_type"), "{{gen_ai_token_type}} a second")]),
        ("Preemptions", "short", [(_rate("lepton.engine.preemptions"), "a second")]),
        ("Rejected", "reqps", [(_rate("lepton.engine.rejected", "lepton_reason"), "{{lepton_reason}}")]),
        ("Finish reasons", "short", [(_rate("lepton.choices", "lepton_finish_reason"), "{{lepton_finish_reason}}")]),
        (
            "Time of a step",
            "s",
            [(f"{_rate('lepton.engine.step.time')} / {_rate('lepton.engine.steps')}", "mean")],
        ),
        (
            "Energy of a generated token",
            "joule",
            [
                (
                    f"{_rate('lepton.energy.requests')} / {_rate('lepton.engine.tokens', more=_GENERATED)}",
                    "joules",
                )
            ],
        ),
        ("Power", "watt", [(_rate("lepton.energy", "pod"), "{{pod}}")]),
        (
            "Ready and draining",
            "short",
            [(_gauge("lepton.server.ready"), "ready"), (_gauge("lepton.server.draining"), "draining")],
        ),
        ("Restarts of the engine", "short", [(_gauge("lepton.engine.restarts", "pod"), "{{pod}}")]),
    ]


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "title": "Lepton",
        "uid": "lepton",
        "tags": ["lepton"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "annotations": {"list": []},
        "templating": {"list": _variables()},
        "panels": [_panel(number, *panel) for number, panel in enumerate(panels())],
    }


def _variables() -> list[dict[str, Any]]:
    ready = _BY_NAME["lepton.server.ready"]
    chosen = [("namespace", f"label_values({ready}, namespace)")]
    chosen.append(("pod", f'label_values({ready}{{namespace=~"$namespace"}}, pod)'))
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    return [source, *(_variable(name, query) for name, query in chosen)]


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panel(number: int, title: str, unit: str, queries: Sequence[Query]) -> dict[str, Any]:
    row, column = divmod(number, COLUMNS)
    return {
        "id": number + 1,
        "title": title,
        "type": "timeseries",
        "datasource": _SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
            for place, (query, legend) in enumerate(queries)
        ],
    }


def text() -> str:
    """The file's text."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    print(text(), end="")
