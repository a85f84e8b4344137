"""Values: unknown and mistyped ones are refused by name; what the chart holds of other parts is theirs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import generate
from tests.chart.conftest import refusal
from tests.chart.helm import CHART, Helm

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = (CHART / "values.yaml").read_text()
OPEN = {"global", "test.modelSpec"}
"""A parent chart's own, and what the CRD checks."""

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"replica": 2}, "at '': additional properties 'replica' not allowed"),
    ({"image": {"tga": "1"}}, "at '/image': additional properties 'tga' not allowed"),
    ({"server": {"image": {"pullPolicy": "Always"}}}, "at '/server/image': additional properties 'pullPolicy'"),
    ({"metrics": {"podMonitor": {"enable": True}}}, "at '/metrics/podMonitor': additional properties 'enable'"),
    ({"tolerations": [{"kye": "a"}]}, "at '/tolerations/0': additional properties 'kye' not allowed"),
    ({"affinity": {"nodeAfinity": {}}}, "at '/affinity': additional properties 'nodeAfinity' not allowed"),
    ({"resources": {"limit": {}}}, "at '/resources': additional properties 'limit' not allowed"),
    (
        {"env": [{"name": "A", "valueFrom": {"secretRef": {}}}]},
        "at '/env/0/valueFrom': additional properties 'secretRef'",
    ),
    (
        {"networkPolicy": {"metricsFrom": [{"pods": {}}]}},
        "at '/networkPolicy/metricsFrom/0': additional properties 'pods'",
    ),
    ({"replicas": "two"}, "at '/replicas': got string, want integer"),
    ({"replicas": -1}, "at '/replicas': minimum: got -1, want 0"),
    ({"watchNamespaces": "team-a"}, "at '/watchNamespaces': got string, want array"),
    ({"watchNamespaces": ["Team A"]}, "at '/watchNamespaces/0': 'Team A' does not match pattern"),
    ({"watchNamespaces": ["a", "a"]}, "at '/watchNamespaces': items at 0 and 1 are equal"),
    ({"crds": {"install": "no"}}, "at '/crds/install': got string, want boolean"),
    ({"image": {"digest": "sha256:12"}}, "at '/image/digest': 'sha256:12' does not match pattern"),
    (
        {"image": {"pullPolicy": "Sometimes"}},
        "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'",
    ),
    ({"logLevel": "loud"}, "at '/logLevel': value must be one of"),
    ({"podLabels": {"a": 1}}, "at '/podLabels/a': got number, want string"),
    ({"leaderElection": {"renewDeadlineSeconds": 5}}, "at '/leaderElection/renewDeadlineSeconds': exclusiveMinimum"),
    ({"metrics": {"port": 80}}, "at '/metrics/port': minimum: got 80, want 1,024"),
    (
        {"metrics": {"serviceMonitor": {"interval": "often"}}},
        "at '/metrics/serviceMonitor/interval': 'often' does not match",
    ),
    ({"podDisruptionBudget": {"maxUnavailable": "half"}}, "at '/podDisruptionBudget/maxUnavailable'"),
]


@pytest.mark.parametrize(("values", "message"), WRONG, ids=lambda value: json.dumps(value)[:60])
def test_a_wrong_value_is_refused_by_name(helm: Helm, values: dict[str, Any], message: str) -> None:
    assert message in refusal(helm, "template", "lepton", str(CHART), values=values)


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of an object, by its path; definitions are followed."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    if schema.get("type") == "object":
        yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from objects(part, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from objects(schema["items"], f"{path}[]")


def test_the_schema_is_closed_at_every_level() -> None:
    loose = {path for path, schema in objects(SCHEMA) if "additionalProperties" not in schema}
    assert loose == OPEN


def test_the_schema_knows_each_value_and_no_other() -> None:
    def keys(values: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
        if "$ref" in schema:
            schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
        if not isinstance(values, dict) or not values or "properties" not in schema:
            return
        for name in set(values) ^ (set(schema["properties"]) - {"global"}):
            yield f"{path}{name}"
        for name, value in values.items():
            if name in schema["properties"]:
                yield from keys(value, schema["properties"][name], f"{path}{name}.")

    differing = set(keys(yaml.safe_load(VALUES), SCHEMA, ""))
    assert differing <= {"resources.claims", "test.resources.limits", "test.resources.claims"}, differing


@pytest.mark.parametrize("file", generate.generated(), ids=lambda path: path.name)
def test_generated_files_are_up_to_date(file: Path) -> None:
    assert file.read_text() == generate.generated()[file], "run `make chart`"


def test_a_value_without_a_comment_is_found() -> None:
    with pytest.raises(generate.CommentError, match=r"image\.tag has no comment"):
        generate.values("image:\n  # -- A name.\n  repository: a\n  tag: b\n")


def test_the_table_has_each_value() -> None:
    rows = generate.table("a:\n  # -- What a is.\n  b: [1]\n# -- Two.\nc: ''\n").splitlines()
    assert rows[2:] == ["| `a.b` | `[1]` | What a is. |", '| `c` | `""` | Two. |']


def test_the_versions_go_together() -> None:
    from lepton_operator.settings import VERSION

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == VERSION
