"""The cluster that all scenarios share, in the order in which they use it: from its first release to its last.

They run where the environment says so (`make e2e`), as root; then nothing is skipped.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.build import build
from images.variants import VARIANTS
from tests.cluster import monitors
from tests.cluster.nodes.cluster import NodeCluster
from tests.e2e.figures import Figures, table
from tests.e2e.size import asked, size
from tests.e2e.world import AUDIT_POLICY, World

ORDER = ("install", "streams", "autoscaling", "failures", "bad_input", "gpus", "rights", "uninstall")
IMAGES = ("operator", "server-cpu")
RESULTS = Path(os.environ.get("LEPTON_E2E_RESULTS") or Path.home() / ".cache" / "lepton" / "e2e")
RUN = pytest.StashKey[Figures]()

if asked() is None:
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Scenarios build on each other: the release is installed first and uninstalled last."""

    def place(item: pytest.Item) -> int:
        name = item.path.stem.removeprefix("test_")
        return ORDER.index(name) if item.path.parent == Path(__file__).parent and name in ORDER else -1

    items.sort(key=place)


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Figures:
    made = Figures(f"make e2e{'' if size().name == 'quick' else '-' + size().name}", RESULTS / f"{size().name}.json")
    request.config.stash[RUN] = made
    return made


@pytest.fixture(scope="session")
def world(figures: Figures) -> Iterator[World]:
    """The cluster, with the images on both nodes."""
    if os.geteuid() != 0:
        pytest.exit("the end-to-end tests start real nodes on this machine: run them as root", returncode=1)
    archives = [build(VARIANTS[name]) for name in IMAGES]
    with NodeCluster(audit_policy=AUDIT_POLICY) as cluster:
        monitors.install(cluster.api)
        for name, archive in zip(IMAGES, archives, strict=True):
            began = time.monotonic()
            cluster.import_image(archive)
            figures.add(f"image {name} imported on both nodes", f"{time.monotonic() - began:.1f} s")
        yield World(cluster, size(), figures, {"server.image.tag": VARIANTS["server-cpu"].tag().rpartition(":")[2]})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The figures so far."""
    figures = config.stash.get(RUN, None)
    if figures is not None and figures.found:
        terminalreporter.section("figures")
        terminalreporter.write_line(table([figures.path]))
        terminalreporter.write_line(f"They are in {figures.path}.")
