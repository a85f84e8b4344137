"""Uninstalling while a model runs: the model goes on, and only what is kept stays."""

import pytest

from tests.cluster.api import eventually
from tests.e2e.pods import servers
from tests.e2e.scenarios.test_install import first_token
from tests.e2e.world import HOME, RELEASE, World, streaming

NAMESPACE = "stays"


@pytest.mark.timeout(600)
def test_uninstall_leaves_models_and_what_is_kept(world: World) -> None:
    world.namespace(NAMESPACE)
    world.api.create(streaming("kept", "1", replicas=1), NAMESPACE)
    world.settled("kept", NAMESPACE, 1)
    before = {pod["metadata"]["uid"] for pod in servers(world.api, "kept", NAMESPACE)}
    world.cluster.helm("uninstall", RELEASE, "--namespace", HOME, "--wait")
    eventually(lambda: not world.operators(), "no operator", 60)
    first_token(world.cluster.target("kept-headless", NAMESPACE), 30)
    assert {pod["metadata"]["uid"] for pod in servers(world.api, "kept", NAMESPACE)} == before
    left = {name for name in world.objects() - world.before if not name.startswith("Namespace/")}
    assert left == {"CustomResourceDefinition/leptonmodels.lepton.dev"}
    world.api.delete("CustomResourceDefinition", "leptonmodels.lepton.dev")
    eventually(lambda: not servers(world.api, "kept", NAMESPACE), "the models' pods go with their CRD", 180)
