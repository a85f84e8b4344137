"""The programs that run inside of a build."""

import json
from pathlib import Path

import pytest

from images.inside.finish import packages
from images.inside.requirements import requirements
from images.inside.sbom import debian_packages, main
from images.inside.standins import definition
from images.inside.without_cuda import needs
from images.lent import pip_config
from images.variants import ROOT

METADATA = """Metadata-Version: 2.4
Name: Some.Thing
Version: 1.0
License-Expression: MIT
Requires-Dist: filelock
Requires-Dist: nvidia-cudnn-cu13==9; platform_system == "Linux"
Requires-Dist: cuda-bindings<14
Requires-Dist: triton~=3.9.0
Requires-Dist: optree>=0.13; extra == "optree"

text
"""


def test_the_server_has_what_its_pods_run_and_no_torch_by_this_way() -> None:
    names = {line.split(">")[0] for line in requirements("server", ROOT)}
    assert {"grpcio", "tokenizers", "huggingface-hub", "s3fs", "uvicorn", "pyjwt[crypto]"} <= names
    assert not {name for name in names if name.startswith(("torch", "lepton"))}


def test_the_operator_has_no_engine() -> None:
    names = {line.split(">")[0] for line in requirements("operator", ROOT)}
    assert {"aiohttp", "grpcio", "opentelemetry-exporter-otlp-proto-grpc"} <= names
    assert not names & {"torch", "numpy", "tokenizers", "s3fs"}


def test_an_unknown_image_or_extra_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        requirements("other", ROOT)
    (tmp_path / "operator").mkdir()
    (tmp_path / "operator" / "pyproject.toml").write_text("[project]\noptional-dependencies = {}\n")
    with pytest.raises(KeyError):
        requirements("server", tmp_path)


def test_cuda_is_not_needed_without_it() -> None:
    assert needs(METADATA) == ["filelock"]


def test_stand_ins_answer_as_there_being_no_device() -> None:
    assert definition("cudaGetDeviceCount") == "int cudaGetDeviceCount(void) { return 100; }"
    assert definition("ncclGetErrorString").startswith("const char *")


def test_the_bill_names_python_s_and_debian_s_packages(tmp_path: Path) -> None:
    site = tmp_path / "lib"
    (site / "some_thing-1.0.dist-info").mkdir(parents=True)
    (site / "some_thing-1.0.dist-info" / "METADATA").write_text(METADATA)
    (tmp_path / "list.json").write_text(json.dumps(packages(site)))
    (tmp_path / "status").write_text("Package: libc6\nVersion: 2.36-9+deb12u1\nArchitecture: amd64\n\nPackage: half\n")
    found = main("lepton/server", "0.1.0", tmp_path, [tmp_path / "list.json"])
    urls = [part["externalRefs"][0]["referenceLocator"] for part in found["packages"]]
    assert urls == [
        "pkg:oci/server@0.1.0",
        "pkg:pypi/some-thing@1.0",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u1?arch=amd64",
    ]
    assert found["packages"][1]["licenseDeclared"] == "MIT"
    assert len({part["SPDXID"] for part in found["packages"]}) == 3
    assert found == main("lepton/server", "0.1.0", tmp_path, [tmp_path / "list.json"])


def test_distroless_lists_its_packages_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "status.d").mkdir()
    (tmp_path / "status.d" / "libc6").write_text("Package: libc6\nVersion: 1\nArchitecture: amd64\n")
    (tmp_path / "status.d" / "libc6.md5sums").write_text("0 usr/lib\n")
    assert debian_packages(tmp_path) == [("libc6", "1", "amd64")]


def test_of_pip_s_configuration_only_the_index_is_lent() -> None:
    listed = "global.cert='/etc/ca'\nglobal.index-url='https://a.example/simple'\n:env:.trusted-host='a.example'\n"
    assert pip_config(listed) == "[global]\nindex-url = https://a.example/simple\ntrusted-host = a.example\n"
    assert pip_config("global.cert='/etc/ca'\n") == ""
