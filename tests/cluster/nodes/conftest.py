"""One cluster of real nodes for the tests of it. `make e2e` asks for these; nothing else collects them."""

import os
from collections.abc import Iterator

import pytest

from tests.cluster.nodes.cluster import NodeCluster

VARIABLE = "LEPTON_E2E"
collect_ignore = [] if os.environ.get(VARIABLE) else ["test_nodes.py", "test_cleaning_up.py"]


@pytest.fixture(scope="module")  # Whoever comes next starts one of their own.
def nodes() -> Iterator[NodeCluster]:
    """The cluster, with the image of `echo` on both nodes. Without root this fails: it never passes by skipping."""
    with NodeCluster() as cluster:
        cluster.import_program("echo")
        yield cluster
