"""GPUs as a device plugin offers them, on machines that have none: where pods go, and what waits."""

import pytest

from tests.cluster.api import eventually
from tests.e2e.pods import servers
from tests.e2e.world import World, streaming

NAMESPACE = "gpus"


@pytest.mark.timeout(300)
def test_a_pod_gets_the_gpus_that_it_asks_for(world: World) -> None:
    world.namespace(NAMESPACE)
    world.api.create(streaming("accelerated", "1", gpu={"count": 1}), NAMESPACE)

    def placed() -> bool:
        pods = servers(world.api, "accelerated", NAMESPACE)
        return any(pod["spec"].get("nodeName") for pod in pods)

    eventually(placed, "a pod on a node", 60)
    (pod,) = servers(world.api, "accelerated", NAMESPACE)
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "--device=cuda" in container["args"]
    world.api.delete("LeptonModel", "accelerated", NAMESPACE)
