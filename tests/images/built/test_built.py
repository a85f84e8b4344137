"""The images that tests use, as they were built."""

import json
import os
import re
import time
from pathlib import Path

from images.build import build
from images.inside.finish import packages
from images.inside.sbom import canonical
from images.variants import VARIANTS, archive, version
from tests.images.rootfs import Image

GENERATE = """
from lepton_engine import LeptonEngine, SamplingParams, embedded
from lepton_engine.kernels.cpu import library
with LeptonEngine(embedded.path(), device="cpu", num_threads=1) as engine:
    (output,) = engine.generate(["The sea"], SamplingParams(max_tokens=8, temperature=0.0))
    print(len(output.outputs[0].token_ids))
assert library.load() is not None, "without kernels"
"""
BAKED = re.compile(rb"index-url|extra-index-url|trusted-host|https?_proxy", re.IGNORECASE)


def site(image: Image) -> Path:
    (found,) = image.root.glob("opt/lepton/lib/python3*/site-packages")
    return found


def test_names_and_labels_are_of_the_version(operator: Image, server: Image) -> None:
    assert operator.names == [f"docker.io/lepton/operator:{version('operator')}"]
    assert server.names == [f"docker.io/lepton/server:{version('server')}-cpu"]
    for image in (operator, server):
        assert image.config["config"]["Labels"]["org.opencontainers.image.version"] == version("server")
        assert image.config["config"]["User"] == "65532:65532"


def test_the_operator_is_small_and_has_no_torch(operator: Image) -> None:
    assert sum(operator.compressed(layer) for layer in operator.layers) <= 150e6
    installed = {path.name.partition("-")[0] for path in site(operator).glob("*.dist-info")}
    assert "lepton_operator" in installed
    assert not installed & {"torch", "lepton_engine", "numpy"}


def test_the_operator_runs_as_in_a_pod(operator: Image) -> None:
    printed = operator.run("lepton", "operator", "crd")
    assert printed.returncode == 0, printed.stderr
    assert "kind: CustomResourceDefinition" in printed.stdout
    # Without a cluster it gets as far as its access.
    alone = operator.run("lepton", "operator", "run", "--metrics-port=0")
    assert alone.returncode == 1
    assert "Traceback" not in alone.stderr, alone.stderr


def test_the_server_generates_as_in_a_pod(server: Image) -> None:
    done = server.run("python", "-c", GENERATE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "8"


def test_the_server_fetches_and_serves(server: Image) -> None:
    for command in ("serve", "fetch"):
        done = server.run("lepton", command, "--help")
        assert done.returncode == 0, done.stderr
    refused = server.run("lepton", "fetch", "gs://bucket/x", "--endpoint=http://127.0.0.1:1", "--into=/tmp/models")
    assert refused.returncode == 14, refused.stderr
    assert (server.root / "opt/lepton/embedded/model.safetensors").is_file()


def test_the_server_for_cpus_has_no_cuda_packages(server: Image) -> None:
    installed = [path.name for path in site(server).glob("*.dist-info")]
    assert not [name for name in installed if re.match(r"nvidia_(?!ml_py)|cuda|triton", name)]
    asked = server.run("python", "-c", "import torch; print(torch.cuda.is_available(), torch.cuda.device_count())")
    assert asked.stdout.split() == ["False", "0"], asked.stderr


def test_a_release_changes_a_small_layer(image: Image) -> None:
    last = image.files(image.layers[-1])
    assert {path.split("/")[0] for path in last} == {"opt"}
    assert sum(last.values()) < 40e6
    below = [path for layer in image.layers[:-1] for path in image.files(layer)]
    assert not [path for path in below if re.search(r"site-packages/lepton", path)]


def test_the_bill_of_materials_lists_all(image: Image) -> None:
    bill = json.loads((image.root / "opt/lepton/share/sbom.spdx.json").read_text())
    found = {(canonical(part["name"]), part["versionInfo"]) for part in bill["packages"]}
    installed = {(canonical(package["name"]), package["version"]) for package in packages(site(image))}
    assert len(installed) > 20
    assert installed <= found
    assert {"libc6", "python3"} <= {name for name, _ in found}


def test_nothing_of_the_machine_is_baked_in(image: Image) -> None:
    said = json.dumps(image.config)
    assert "index-url" not in said
    assert not [value for value in image.config["config"]["Env"] if re.match("PIP_|.*proxy|.*CERT", value, re.I)]
    for name in (
        "etc/pip.conf",
        "root/.config/pip/pip.conf",
        "root/.pip/pip.conf",
        "root/.netrc",
        "opt/lepton/pip.conf",
    ):
        assert not (image.root / name).exists(), name
    for path in (image.root / "etc").rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1e6:
            assert not BAKED.search(path.read_bytes()), path
    assert not list(image.root.glob("run/secrets/*"))
    assert not list(site(image).rglob("direct_url.json"))


def test_what_starts_need_is_compiled_already(image: Image) -> None:
    sources = list(site(image).rglob("lepton*/**/*.py"))
    compiled = {path.name.partition(".")[0] for path in site(image).rglob("lepton*/**/*.pyc")}
    assert sources
    assert {path.stem for path in sources} <= compiled


def test_a_second_build_does_nothing() -> None:
    for name in ("operator", "server-cpu"):
        built = build(VARIANTS[name])
        before = built.stat().st_mtime_ns
        started = time.process_time()
        assert build(VARIANTS[name]) == built == archive(name).resolve()
        assert built.stat().st_mtime_ns == before
        assert time.process_time() - started < 60
        assert len(list(built.parent.glob(f"{name}-????????????.tar"))) == 1


def test_files_have_the_time_of_no_build(image: Image) -> None:
    times = {os.stat(path).st_mtime for path in site(image).glob("lepton*")}
    assert times == {1767225600.0}
