"""`lepton operator`: CRD, plan, flags; the schema's own checks."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
import yaml
from msgspec import Meta

from lepton_operator.commands import operator as command
from lepton_operator.commands.options import run_settings
from lepton_operator.crd import crd, model_schema
from lepton_operator.rbac import rules
from lepton_operator.schema import problems, schema_of

ROOT = Path(__file__).parents[2]


def parsed(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(list(argv))


def test_every_field_is_described_and_bounded() -> None:
    def walk(schema: dict[str, Any], where: str) -> None:
        for name, part in schema.get("properties", {}).items():
            assert part.get("description"), f"{where}.{name} has no description"
            walk(part, f"{where}.{name}")
        if schema.get("type") == "string":
            assert "maxLength" in schema or "enum" in schema, where
        if schema.get("type") == "array":
            assert "maxItems" in schema, where
            walk(schema["items"], where + "[]")
        if isinstance(schema.get("additionalProperties"), dict):
            assert "maxProperties" in schema, where
            walk(schema["additionalProperties"], where + "{}")

    found = model_schema()["properties"]
    walk(found["spec"], "spec")
    walk(found["status"], "status")


def test_the_crd_is_small_enough_for_kubectl_apply() -> None:
    assert len(msgspec.json.encode(crd())) < 200_000


def test_the_printed_crd_is_the_one_of_the_types(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(parsed("crd")) == 0
    assert yaml.safe_load(capsys.readouterr().out) == crd()


def test_unbounded_types_are_refused() -> None:
    class Unbounded(msgspec.Struct):
        text: str

    class Union(msgspec.Struct):
        value: Annotated[int, Meta(le=1)] | bool

    with pytest.raises(TypeError, match=r"text: a string needs max_length"):
        schema_of(Unbounded)
    with pytest.raises(TypeError, match="value"):
        schema_of(Union)


MODEL = """
apiVersion: lepton.dev/v1alpha1
kind: LeptonModel
metadata: {name: llama}
spec:
"""


@pytest.fixture
def plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(spec: str, *more: str, head: str = MODEL) -> tuple[int, str, str]:
        file = tmp_path / "model.yaml"
        file.write_text(head + spec)
        status = command.run(parsed("plan", str(file), *more))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_plan_prints_what_a_manifest_becomes(plan: Callable[..., tuple[int, str, str]]) -> None:
    status, out, _ = plan("  model: {source: {embedded: {}}}\n  gpu: {}\n", "--server-image=mine:1")
    assert status == 0
    found = list(yaml.safe_load_all(out))
    assert [m["kind"] for m in found] == ["ServiceAccount", "Service", "Service", "PodDisruptionBudget", "Deployment"]
    assert found[-1]["spec"]["template"]["spec"]["containers"][0]["image"] == "mine:1"
    assert "lepton.dev/template" not in out


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("  model: {source: {}}\n", "spec.model.source: give exactly one source, not none"),
        ("  model: {source: {embedded: {}, pvc: {claim: c}}}\n", "give exactly one source, not pvc, embedded"),
        ("  model: {source: {embedded: {}}}\n  gpus: 1\n", "spec.gpus: no such field"),
        (
            "  model: {source: {embedded: {}}}\n  replicas: -1\n",
            "spec.replicas: -1 is out of range, allowed is 0 to 1000",
        ),
        ("  model: {source: {embedded: {}}}\n  replicas: x\n", "spec.replicas: 'x' is not of type integer"),
        ("  model: {source: {embedded: {}}}\n  gpu: {resource: gpu}\n", "spec.gpu.resource: 'gpu' does not match"),
        ("  model: {source: {embedded: {}}}\n  quantization: {weights: int3}\n", "'int3' is not one of none, int8"),
        (
            "  model: {source: {embedded: {}}}\n  autoscaling: {minReplicas: 3, maxReplicas: 2}\n",
            "minReplicas 3 must be at most maxReplicas 2",
        ),
        ("  model: {source: {embedded: {}}}\n  pod: {shmSize: lots}\n", "spec.pod.shmSize: 'lots' is not a quantity"),
        ("  model: {source: {embedded: {}}}\n  cache: {size: 1Gi}\n", "spec.cache: is for sources that are fetched"),
        ("  replicas: 1\n", "spec.model: is required"),
    ],
)
def test_plan_names_what_is_wrong(plan: Callable[..., tuple[int, str, str]], spec: str, message: str) -> None:
    status, out, err = plan(spec)
    assert status == 1
    assert not out
    assert message in err
    assert "LeptonModel llama" in err


@pytest.mark.parametrize("text", ["", "kind: Pod\n", "{", "a: b: c"])
def test_plan_of_a_file_without_a_model(plan: Callable[..., tuple[int, str, str]], text: str) -> None:
    status, _, err = plan("", head=text)
    assert status == 1
    assert "model.yaml" in err


def test_what_is_given_before_the_action_stays() -> None:
    args = parsed("--namespace=a", "--server-image=x:1", "run", "--namespace=b")
    settings = run_settings(args)
    assert "b" in settings.namespaces
    assert settings.pods.server_image == "x:1"
    assert run_settings(parsed("--namespace=a", "run")).namespaces == ("a",)
    assert run_settings(parsed()).namespaces == ()


def test_lease_times_that_do_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(parsed("run", "--lease-duration=1")) == 2
    assert "must rise" in capsys.readouterr().err


def test_the_rights_are_least() -> None:
    for rule in rules():
        assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]
        assert "secrets" not in rule["resources"]


def test_values_are_checked_against_schemas() -> None:
    schema = schema_of(__import__("lepton_operator.api", fromlist=["x"]).LeptonModelSpec)
    assert problems({"model": {"source": {"embedded": {}}}, "replicas": True}, schema)
    assert problems([], schema)
    assert not problems({"model": {"source": {"embedded": {}}}, "pod": {"resources": {"limits": {"cpu": 2}}}}, schema)


@pytest.mark.parametrize("action", [[], ["run"], ["plan"], ["rbac"], ["crd"]])
def test_help_is_printed(action: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(*action, "--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "%(" not in text
    assert ("app.kubernetes.io/name=lepton-operator" in text) == (action in ([], ["run"], ["plan"]))
