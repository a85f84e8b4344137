"""The alerts: each fires on series made for it, and asks for metrics that the operator and the server really have."""

import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from lepton_operator.names import MODEL
from lepton_operator.telemetry import Telemetry
from tests.chart.helm import Helm
from tests.cluster.api import Object
from tests.service.conftest import eventually_fixture, fake_engine
from tests.service.telemetry.conftest import Observe, observe
from tests.service.telemetry.test_metrics import ask, samples

__all__ = ["eventually_fixture", "fake_engine", "observe"]
CASES = Path(__file__).parent / "alerts.yaml"
_MATCHERS = re.compile(r"([a-z_]+)\{([^}]*)\}")
_LABEL = re.compile(r"([a-z_]+)\s*[=!]~?\s*\"")
# What Prometheus adds by the chart's monitors.
TARGET_LABELS = {"namespace", "service", "pod", "lepton_dev_model"}
Page = dict[str, set[str]]


@pytest.fixture(scope="module")
def groups(helm: Helm) -> list[Object]:
    made = helm.objects({"metrics": {"prometheusRule": {"enabled": True}}})
    found: list[Object] = made.one("PrometheusRule")["spec"]["groups"]
    return found


@pytest.fixture(scope="module")
def rules(groups: list[Object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("alerts") / "rules.yaml"
    path.write_text(json.dumps({"groups": groups}))
    return path


def alerts(groups: Iterable[Object]) -> list[Object]:
    return [rule for group in groups for rule in group["rules"]]


def test_the_rules_are_well_formed(promtool: Path, rules: Path) -> None:
    done = subprocess.run([promtool, "check", "rules", rules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def run_cases(promtool: Path, folder: Path, cases: Object, groups: list[Object]) -> str:
    """What promtool says of cases; empty when all are as expected."""
    rules = folder / "rules.json"
    rules.write_text(json.dumps({"groups": groups}))
    path = folder / "cases.json"
    path.write_text(json.dumps({**cases, "rule_files": [str(rules)]}))
    done = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_else_not(promtool: Path, groups: list[Object], tmp_path: Path) -> None:
    cases = yaml.safe_load(CASES.read_text())
    fired = {test["alertname"] for case in cases["tests"] for test in case["alert_rule_test"] if test["exp_alerts"]}
    assert fired == {alert["alert"] for alert in alerts(groups)}
    # promtool would compare the annotations too.
    bare = [{**group, "rules": [{**rule, "annotations": {}} for rule in group["rules"]]} for group in groups]
    assert not run_cases(promtool, tmp_path, cases, bare)


def test_an_alert_says_whose_and_how_much(promtool: Path, groups: list[Object], tmp_path: Path) -> None:
    series = 'lepton_requests_total{namespace="team-a", lepton_dev_model="m", rpc_response_status_code="%s"}'
    inputs = [("OK", "0+90x20"), ("UNAVAILABLE", "0+10x20")]
    expected = {
        "exp_labels": {"severity": "critical", "namespace": "team-a", "lepton_dev_model": "m"},
        "exp_annotations": {
            "summary": "10% of the requests to team-a/m fail by the server's fault.",
            "description": "The pods' logs say why.",
        },
    }
    case = {
        "interval": "1m",
        "input_series": [{"series": series % status, "values": values} for status, values in inputs],
        "alert_rule_test": [{"eval_time": "15m", "alertname": "LeptonModelErrors", "exp_alerts": [expected]}],
    }
    assert not run_cases(promtool, tmp_path, {"tests": [case]}, groups)


def asked(expression: str) -> Page:
    """The metrics of an expression, with the labels that it selects them by."""
    found: Page = {}
    for name, matchers in _MATCHERS.findall(expression):
        found.setdefault(name, set()).update(_LABEL.findall(matchers))
    return found


def page(text: str) -> Page:
    """The metrics of a page, with all labels that they have there."""
    return {name: {key for labels in series for key, _ in labels} for name, series in samples(text).items()}


def operator_page() -> Page:
    telemetry = Telemetry(lambda: 1, lambda: True, lambda: {("team-a", "m"): (1, 0.5)})
    telemetry.reconciled("error", 0.1, 0.2)
    telemetry.called("GET", "/apis/lepton.dev/v1alpha1/leptonmodels", 200)
    telemetry.scaled(1, 2)
    text = telemetry.text().decode()
    telemetry.close()
    return page(text)


async def test_metrics_and_labels_are_those_of_the_pages(groups: list[Object], observe: Observe) -> None:
    async with observe(metrics_port=0) as observed:
        await ask(observed.client, 2)
        known = page(await observed.page()) | operator_page()
    wanted = [(alert["alert"], *item) for alert in alerts(groups) for item in asked(alert["expr"]).items()]
    assert len(wanted) > len(alerts(groups))
    for alert, name, labels in wanted:
        assert name in known, f"{alert}: neither the operator nor the server has {name}"
        assert labels <= known[name] | TARGET_LABELS, f"{alert}: {name} has only {known[name]}"


def test_what_alerts_group_by_are_labels_of_the_monitors(helm: Helm) -> None:
    """`lepton.dev/model` becomes lepton_dev_model by podTargetLabels, the operator's PodMonitors and the chart's."""
    made = helm.objects({"metrics": {"podMonitor": {"enabled": True}}})
    assert made.one("PodMonitor")["spec"]["podTargetLabels"] == [MODEL]
    assert re.sub(r"[^a-z]", "_", MODEL) in TARGET_LABELS
