"""A step of load: replicas go from one to four and back, and the events and conditions tell why."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.api import eventually
from tests.cluster.models import condition
from tests.e2e.load import Load, assert_good
from tests.e2e.picture import Sample, draw
from tests.e2e.plan import Plan
from tests.e2e.pods import ready, servers, stats
from tests.e2e.references import collect
from tests.e2e.world import World, streaming

MODEL, NAMESPACE = "elastic", "elastic"
TARGET = 12
DECISION = 15.0
WINDOW = 30
SCALING = {
    "minReplicas": 1,
    "maxReplicas": 4,
    "targetStreams": TARGET,
    "stableSeconds": 15,
    "panicSeconds": 6,
    "scaleDownSeconds": WINDOW,
}


def desired(world: World) -> int:
    """Replicas that the autoscaler wants."""
    found = world.api.get("LeptonModel", MODEL, NAMESPACE).get("status", {}).get("autoscaling") or {}
    return int(found.get("desired", 0))


@contextmanager
def sampled(world: World) -> Iterator[list[Sample]]:
    """What the model is like, twice a second, while the body runs."""
    samples: list[Sample] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            pods = servers(world.api, MODEL, NAMESPACE)
            running = sum(found.running + found.waiting for found in map(stats, pods) if found is not None)
            samples.append(Sample(time.time(), desired(world), sum(map(ready, pods)), running))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield samples
    finally:
        ended.set()
        watcher.join()


@pytest.mark.timeout(1200)
def test_a_load_step_scales_up_and_down(world: World) -> None:
    world.namespace(NAMESPACE)
    world.api.create(streaming(MODEL, "300m", autoscaling=SCALING), NAMESPACE)
    world.settled(MODEL, NAMESPACE, 1)
    target = world.cluster.target(f"{MODEL}-headless", NAMESPACE)
    references = tuple(asyncio.run(collect(target)))
    with sampled(world) as samples, Load(Plan("step", target, 4, world.size.seconds, references)) as load:
        load.wait_for(lambda records: len(records) >= 4, "a quiet start", 180)
        step = time.monotonic()
        load.streams(4 * TARGET - 4)
        eventually(lambda: desired(world) == 4, "four replicas are wanted", 60, every=0.2)
        decided = time.monotonic() - step
        world.settled(MODEL, NAMESPACE, 4)
        served = time.monotonic() - step
        load.streams(2)
        fell = time.monotonic()
        eventually(lambda: desired(world) == 1, "one replica is wanted", 300, every=0.2)
        quiet = time.monotonic() - fell
        world.settled(MODEL, NAMESPACE, 1, seconds=300)
        records = load.finish()
    draw(samples, records, TARGET, world.figures.path.with_name("scale-up.png"))
    world.figures.add("a load step 1 -> 4: decided", f"{decided:.1f} s", f"{DECISION:g} s")
    world.figures.add("a load step 1 -> 4: all four serve", f"{served:.1f} s", "15 s and the pods' start-up")
    world.figures.add("the load falls: one replica is wanted", f"{quiet:.1f} s", f"after the window of {WINDOW} s")
    assert_good(records, least=4)
    assert decided <= DECISION
    assert quiet >= WINDOW
    found = world.api.get("LeptonModel", MODEL, NAMESPACE)
    assert condition(found, "ScalingActive")["reason"] == "Autoscaling"
    notes = [event.get("message", "") for event in world.api.list("Event", NAMESPACE)]
    assert any("4" in note and "replica" in note for note in notes), notes
    world.api.delete("LeptonModel", MODEL, NAMESPACE)
