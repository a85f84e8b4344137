"""The contract as checked in: generated code, lint, breaking changes, and rules that buf has no name for."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from lepton.v1 import (
    chat_pb2,
    errors_pb2,
    generation_pb2,
    model_pb2,
    sampling_pb2,
    scoring_pb2,
    stats_pb2,
    tokenization_pb2,
    tokens_pb2,
)

PROTOS = Path(generation_pb2.__file__).parents[2]
BUF = Path(sys.executable).parent / "buf"
FILES = (
    chat_pb2,
    errors_pb2,
    generation_pb2,
    model_pb2,
    sampling_pb2,
    scoring_pb2,
    stats_pb2,
    tokenization_pb2,
    tokens_pb2,
)


def buf(*arguments: str, cwd: Path = PROTOS) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BUF), *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def generated(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted((folder / "lepton").rglob("*_pb2*.py*"))
    }


def test_checked_in_python_is_what_the_protos_generate(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("protos_generate", PROTOS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.generate(tmp_path)
    fresh = generated(tmp_path)
    checked_in = {name: data for name, data in generated(PROTOS).items() if "__pycache__" not in name}
    assert sorted(checked_in) == sorted(fresh)
    assert [name for name in fresh if fresh[name] != checked_in[name]] == [], "run `make protos`"


def test_lint_is_clean() -> None:
    result = buf("lint", ".")
    assert result.returncode == 0, result.stdout + result.stderr


def test_nothing_breaks_the_released_contract() -> None:
    result = buf("breaking", ".", "--against", "lepton.v1.binpb")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_breaking_check_notices_a_change(tmp_path: Path) -> None:
    for path in [PROTOS / "buf.yaml", *(PROTOS / "lepton").rglob("*.proto")]:
        target = tmp_path / path.relative_to(PROTOS)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text().replace("uint32 running = 10;", "uint64 running = 10;"))
    result = buf("breaking", ".", "--against", str(PROTOS / "lepton.v1.binpb"), cwd=tmp_path)
    assert result.returncode != 0
    assert "running" in result.stdout


def test_baseline_holds_every_file() -> None:
    baseline = FileDescriptorSet.FromString((PROTOS / "lepton.v1.binpb").read_bytes())
    names = {file.name for file in baseline.file}
    assert {module.DESCRIPTOR.name for module in FILES} <= names


def test_complete_takes_the_same_fields_as_generate() -> None:
    def shape(field: FieldDescriptor) -> tuple[object, ...]:
        message = field.message_type.full_name if field.message_type else None
        oneof = field.containing_oneof.name if field.containing_oneof else None
        return field.name, field.number, field.type, field.is_repeated, message, oneof

    generate = [shape(field) for field in generation_pb2.GenerateRequest.DESCRIPTOR.fields]
    complete = [shape(field) for field in generation_pb2.CompleteRequest.DESCRIPTOR.fields]
    assert generate == complete


@pytest.mark.parametrize(
    "message", [sampling_pb2.SamplingParams, sampling_pb2.StopCriteria, sampling_pb2.OutputOptions]
)
def test_option_scalars_have_presence(message: type) -> None:
    missing = [f.name for f in message.DESCRIPTOR.fields if not f.is_repeated and not f.has_presence]  # type: ignore[attr-defined]
    assert missing == []


def test_floors_are_not_below_the_generator() -> None:
    dependencies = tomllib.loads((PROTOS / "pyproject.toml").read_text())["project"]["dependencies"]
    floors = dict(item.split(">=") for item in dependencies)
    messages = re.search(r"Protobuf Python Version: (\S+)", (PROTOS / "lepton/v1/stats_pb2.py").read_text())
    services = re.search(r"GRPC_GENERATED_VERSION = '(\S+)'", (PROTOS / "lepton/v1/stats_pb2_grpc.py").read_text())
    assert messages is not None
    assert services is not None
    assert floors == {"protobuf": messages[1], "grpcio": services[1]}
