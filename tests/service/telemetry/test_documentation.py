"""docs/telemetry.md and the dashboard follow the code."""

import argparse
import json
import re
from pathlib import Path

from lepton_service.interceptors.access_log import FIELDS
from lepton_service.telemetry import dashboard, names
from lepton_service.telemetry.options import add_telemetry_arguments
from lepton_service.telemetry.tracing import ATTRIBUTES, EVENTS

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = (ROOT / "docs" / "telemetry.md").read_text()


def table(heading: str) -> list[str]:
    """Rows of the table below a heading, without its head."""
    part = re.split(r"^#+ ", DOCUMENT, flags=re.MULTILINE)
    (section,) = [text for text in part if text.startswith(heading + "\n")]
    return [line for line in section.splitlines() if line.startswith("| `")]


def metric_row(metric: names.Metric) -> str:
    by = ", ".join(f"`{name}`" for name in metric.attributes)
    return f"| `{metric.name}` | `{metric.prometheus}` | {metric.kind} | {metric.description} | {by} |"


def test_metrics() -> None:
    assert table("Of calls") == [metric_row(metric) for metric in names.CALLS]
    assert table("Of the server and the engine") == [metric_row(metric) for metric in (*names.STATE, *names.ENGINE)]


def test_spans() -> None:
    assert table("Attributes") == [f"| `{name}` | {meaning} |" for name, meaning in ATTRIBUTES.items()]
    assert table("Events") == [f"| `{name}` | {meaning} |" for name, meaning in EVENTS.items()]


def test_access_log() -> None:
    assert table("Access log") == [f"| `{name}` | {meaning} |" for name, meaning in FIELDS.items()]


def test_flags() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_telemetry_arguments(parser)
    for action in parser._actions:
        assert f"`{action.option_strings[0]}" in DOCUMENT


def test_the_dashboard_is_what_its_script_prints() -> None:
    assert dashboard.FILE.read_text() == dashboard.text(), "python -m lepton_service.telemetry.dashboard"


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    found = json.loads(dashboard.FILE.read_text())
    assert found["schemaVersion"] >= 36
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])
    exist = {metric.prometheus: metric for metric in names.METRICS}
    asked = set()
    for panel in found["panels"]:
        assert panel["targets"]
        for target in panel["targets"]:
            for name, labels in re.findall(r"([a-z][a-z0-9_]+)\{([^}]*)\}", target["expr"]):
                metric = exist[re.sub(r"_(bucket|count|sum)$", "", name)]
                assert (name == metric.prometheus) == (metric.kind != names.HISTOGRAM), name
                known = {attribute.replace(".", "_") for attribute in metric.attributes} | {"namespace", "pod"}
                assert set(re.findall(r"(\w+)(?:=~|!=|=)", labels)) <= known
                asked.add(metric.name)
            for group in re.findall(r"by \(([^)]*)\)", target["expr"]):
                every = {a.replace(".", "_") for metric in names.METRICS for a in metric.attributes}
                assert set(group.split(", ")) <= every | {"le", "pod"}
    wanted = {"lepton.engine.preemptions", "lepton.engine.rejected", "lepton.kv_cache.usage", "lepton.energy"}
    assert wanted <= asked
