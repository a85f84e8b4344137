"""One control plane for all tests that need one, started by the first of them."""

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import build
from tests.cluster.api import Api, from_kubeconfig
from tests.cluster.available import unavailable
from tests.cluster.control_plane import CONTROLLERS, SERVERS, ControlPlane
from tests.cluster.kwok import add_node
from tests.cluster.namespace import NamespaceError
from tests.cluster.operators import SHORT_LEASE, Operator, install

NUMBERS = itertools.count()
GIVEN = os.environ.get("LEPTON_TEST_KUBECONFIG")


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    """The control plane's programs: from $KUBEBUILDER_ASSETS where that is set, else built."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        found = {name: Path(assets) / name for name in (*SERVERS, *CONTROLLERS, "kubectl")}
        found = {name: path for name, path in found.items() if path.exists()}
        missing = [name for name in SERVERS if name not in found]
        if missing:
            unavailable(f"KUBEBUILDER_ASSETS={assets} has no {' and no '.join(missing)}")
        return found
    try:
        return build.programs(*SERVERS, *CONTROLLERS, "kubectl")
    except (build.BuildError, OSError) as error:
        unavailable(f"no control plane can be built here: {error}")
        raise


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest) -> Iterator[ControlPlane]:
    """etcd and an API server, with the controllers where their programs are; in its own network where that can be."""
    if GIVEN:
        pytest.skip("LEPTON_TEST_KUBECONFIG's cluster has no audit log to read, no kwok, and may not be restarted")
    programs: dict[str, Path] = request.getfixturevalue("programs")
    try:
        plane = ControlPlane(programs)
    except NamespaceError:
        plane = ControlPlane(programs, namespaced=False)
    yield plane
    plane.close()


@pytest.fixture(scope="session")
def cluster(control_plane: ControlPlane) -> ControlPlane:
    """A whole cluster: controllers, scheduler, and two nodes of kwok with eight GPUs each."""
    if not control_plane.controllers:
        unavailable(f"KUBEBUILDER_ASSETS lacks some of {', '.join(CONTROLLERS)}")
    for name in ("gpu-0", "gpu-1"):
        add_node(control_plane.api, name)
    return control_plane


@pytest.fixture(scope="session")
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Api:
    """The cluster's administrator; of the cluster of $LEPTON_TEST_KUBECONFIG where that is set."""
    if GIVEN:
        return Api(from_kubeconfig(Path(GIVEN), tmp_path_factory.mktemp("kubeconfig")))
    plane: ControlPlane = request.getfixturevalue("control_plane")
    return plane.api


@pytest.fixture(scope="session")
def installed(api: Api) -> Api:
    """An API server that knows LeptonModels and the operator's rights."""
    install(api)
    return api


@pytest.fixture(scope="session")
def running(cluster: ControlPlane, installed: Api) -> Iterator[Operator]:
    """The operator that most tests share. Tests that need others stop it; `operator` starts it again."""
    started = Operator(cluster, "shared")
    yield started
    if started.process.poll() is None:
        assert started.stop() == 0, started.text()[-2000:]


@pytest.fixture
def operator(running: Operator) -> Operator:
    """A running operator of the whole cluster."""
    if running.process.poll() is not None:
        running.restart(SHORT_LEASE)
    return running


@pytest.fixture
def namespace(installed: Api, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own; its models are deleted in the end."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-") + f"-{next(NUMBERS)}"
    installed.create({"kind": "Namespace", "metadata": {"name": name}})
    yield name
    if (installed.find("Namespace", name) or {}).get("status", {}).get("phase") == "Active":
        installed.delete_all("LeptonModel", name)
