"""kill -9 of a pod, and of a whole node."""

import threading
import time
from collections import Counter

import pytest

from lepton_service.client import LeptonClient, LeptonClientError
from tests.cluster.api import eventually
from tests.e2e.load import Load
from tests.e2e.plan import Plan
from tests.e2e.pods import ready, servers
from tests.e2e.references import collect
from tests.e2e.scenarios.test_install import first_token
from tests.e2e.world import World, streaming

NAMESPACE = "failures"


@pytest.mark.timeout(600)
async def test_a_killed_pod_is_seen_and_new_calls_are_carried(world: World) -> None:
    world.namespace(NAMESPACE)
    world.api.create(streaming("pair", "500m", replicas=2), NAMESPACE)
    world.settled("pair", NAMESPACE, 2)
    target = world.cluster.target("pair-headless", NAMESPACE)
    references = tuple(await collect(target, count=8))
    failures: list[str] = []
    ended = threading.Event()

    def calls() -> None:
        """One after the other, by the published service config."""
        with LeptonClient(target) as client:
            while not ended.is_set():
                try:
                    client.complete("Once upon a time", max_tokens=4, timeout=30)
                except LeptonClientError as error:
                    failures.append(str(error))

    with Load(Plan("killed", target, 16, (20.0, 30.0), references)) as load:
        load.wait_for(lambda records: len(records) >= 4, "streams on both", 120)
        before = len(load.records)
        caller = threading.Thread(target=calls)
        caller.start()
        victim = servers(world.api, "pair", NAMESPACE)[0]["metadata"]["name"]
        began = time.monotonic()
        world.kill(victim, NAMESPACE)
        load.wait_for(lambda records: any(r.code == "UNAVAILABLE" for r in records), "UNAVAILABLE", 60)

        def back() -> bool:
            pod = world.api.get("Pod", victim, NAMESPACE)
            (status,) = pod["status"]["containerStatuses"]
            return ready(pod) and int(status["restartCount"]) > 0

        eventually(back, "the pod is back", 120)
        took = time.monotonic() - began
        ended.set()
        caller.join()
        codes = Counter(record.code for record in load.finish()[before:])
    assert set(codes) <= {"OK", "UNAVAILABLE"}, codes
    assert failures == []
    world.figures.add("pod kill -9: streams of its own that saw UNAVAILABLE", str(codes["UNAVAILABLE"]))
    world.figures.add("pod kill -9: new calls by the published policy that failed", str(len(failures)), "0")
    world.figures.add("pod kill -9: the pod serves again", f"{took:.1f} s")
    world.api.delete("LeptonModel", "pair", NAMESPACE)


@pytest.mark.timeout(900)
def test_a_killed_node_is_replaced(world: World) -> None:
    world.namespace(NAMESPACE)
    try:
        world.cluster.kubectl("cordon", "node-a")
        world.api.create(streaming("lone", "1", replicas=1), NAMESPACE)
        world.settled("lone", NAMESPACE, 1)
    finally:
        world.cluster.kubectl("uncordon", "node-a")
    try:
        world.cluster.kill_node("node-b")
        began = time.monotonic()

        def elsewhere() -> bool:
            pods = servers(world.api, "lone", NAMESPACE)
            return any(ready(pod) and pod["spec"]["nodeName"] == "node-a" for pod in pods)

        eventually(elsewhere, "a pod on the other node", 180)
        first_token(world.cluster.target("lone-headless", NAMESPACE), 60)
        took = time.monotonic() - began
    finally:
        world.cluster.start_node("node-b")
        world.cluster.wait_ready()
    world.figures.add("node kill -9: the model serves from the other node", f"{took:.1f} s")
    world.settled("lone", NAMESPACE, 1)
    world.api.delete("LeptonModel", "lone", NAMESPACE)
