"""Helm, and a control plane of the chart's own: it installs its own CRD and rights."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chart import prometheus_kinds
from tests.chart.helm import Helm, HelmError
from tests.cluster import build
from tests.cluster.api import Api, eventually
from tests.cluster.available import unavailable
from tests.cluster.conftest import cluster, control_plane, programs
from tests.cluster.control_plane import ControlPlane

__all__ = ["cluster", "control_plane", "programs"]
CRD = "leptonmodels.lepton.dev"
NUMBERS = itertools.count()


def tool(name: str) -> Path:
    """A program that tests build, or a skip where it cannot be had."""
    return had(name, lambda: build.program(name))


def had(what: str, make: Callable[[], Path]) -> Path:
    """What tests build or download, or a skip where it cannot be had."""
    try:
        return make()
    except (build.BuildError, OSError) as error:
        unavailable(f"{what} cannot be had here: {error}")
        raise


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm without a cluster."""
    return Helm(tool("helm"), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Prometheus' tool for rules."""
    return tool("promtool")


@pytest.fixture(scope="session")
def prometheus() -> Path:
    """The folder of the Prometheus operator's CRDs."""
    return had("the Prometheus operator's CRDs", prometheus_kinds.files)


@pytest.fixture(scope="session")
def releases(helm: Helm, cluster: ControlPlane) -> Helm:
    """Helm as the administrator of a real control plane with nodes of kwok."""
    return replace(helm, plane=cluster, kubeconfig=cluster.api.access.write(helm.home / "kubeconfig"))


@pytest.fixture
def api(cluster: ControlPlane, releases: Helm) -> Iterator[Api]:
    """The cluster's administrator; no release and no CRD of LeptonModels is left when a test begins."""
    yield cluster.api
    for release in json.loads(releases("list", "--all-namespaces", "--output", "json")):
        releases("uninstall", release["name"], "--namespace", release["namespace"], "--wait")
    if cluster.api.find("CustomResourceDefinition", CRD) is not None:
        cluster.api.delete("CustomResourceDefinition", CRD)
    # No more served is not yet gone: while it terminates, applying it again would be lost.
    eventually(lambda: cluster.api.find("CustomResourceDefinition", CRD) is None, "the CRD is gone")
    eventually(lambda: not prometheus_kinds.served(cluster.api, "LeptonModel"), "LeptonModels are gone")


@pytest.fixture
def home(api: Api, request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own."""
    return namespace(api, request.node.name)


def namespace(api: Api, name: str, labels: dict[str, str] | None = None) -> str:
    """A new namespace named after this."""
    made = re.sub(r"[^a-z0-9]+", "-", name.lower())[:50].strip("-") + f"-{next(NUMBERS)}"
    api.create({"kind": "Namespace", "metadata": {"name": made, "labels": labels or {}}})
    eventually(lambda: api.find("ServiceAccount", "default", made), "the ServiceAccount of all pods", every=0.02)
    eventually(lambda: api.find("ConfigMap", "kube-root-ca.crt", made), "the certificate for all pods", every=0.02)
    return made


def refusal(helm: Helm, *words: str, **more: object) -> str:
    """What Helm says when it refuses, as it must."""
    try:
        said = helm(*words, **more)  # type: ignore[arg-type]
    except HelmError as error:
        return " ".join(str(error).split())
    raise AssertionError(f"helm {' '.join(words)} refused nothing: {said}")
