"""What goes wrong on real nodes, and how the conditions tell it."""

import pytest

from tests.cluster.models import wait_condition
from tests.e2e.scenarios.test_install import first_token
from tests.e2e.world import World, streaming

NAMESPACE = "bad"


@pytest.mark.timeout(300)
def test_an_image_that_cannot_be_pulled(world: World) -> None:
    world.namespace(NAMESPACE)
    server = {"image": "lepton.invalid/lepton/server:none"}
    world.api.create(streaming("unpulled", "1", server=server), NAMESPACE)
    found = wait_condition(world.api, "unpulled", "Degraded", "True", "ImagePull", NAMESPACE, 120)
    assert "lepton.invalid/lepton/server:none" in found["message"]
    world.api.delete("LeptonModel", "unpulled", NAMESPACE)


@pytest.mark.timeout(300)
def test_a_server_older_than_the_operator_says_which_flag_it_lacks(world: World) -> None:
    world.namespace(NAMESPACE)
    server = {"args": ["--flag-of-a-later-release=1"]}
    world.api.create(streaming("older", "1", server=server), NAMESPACE)
    found = wait_condition(world.api, "older", "Degraded", "True", "CrashLooping", NAMESPACE, 180)
    assert "--flag-of-a-later-release" in found["message"]
    world.api.delete("LeptonModel", "older", NAMESPACE)


@pytest.mark.timeout(300)
def test_a_model_runs_where_pod_security_is_restricted(world: World) -> None:
    namespace = world.namespace("restricted", {"pod-security.kubernetes.io/enforce": "restricted"})
    world.api.create(streaming("strict", "1"), namespace)
    world.settled("strict", namespace, 1)
    first_token(world.cluster.target("strict-headless", namespace), 30)
    world.api.delete("LeptonModel", "strict", namespace)
