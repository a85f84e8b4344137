"""Streams go on, and say what they would have said, whatever is rolled, scaled, drained, upgraded or killed.

One load runs through all of these tests, in their order; each of them looks at what has ended so far.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cluster.api import eventually
from tests.cluster.models import wait_ready
from tests.e2e.load import Load, assert_good
from tests.e2e.plan import Plan
from tests.e2e.pods import Servers, servers, stats
from tests.e2e.references import collect
from tests.e2e.world import World, streaming

MODEL, NAMESPACE = "chat", "streams"
SPREAD_SECONDS = 90.0
CPU = {"quick": "200m", "full": "400m"}
"""What one pod may take of the machine: so the streams last, and the cluster has room beside them."""


@dataclass
class Streams:
    """The load and what serves it; `seen` streams have been looked at."""

    world: World
    load: Load
    followed: Servers
    seen: int = 0

    def check(self) -> None:
        """What has ended since the last time has ended well. Raises: LoadError."""
        seen, self.seen = self.seen, len(self.load.records)
        assert_good(self.load.records[seen : self.seen], least=0)

    def replicas(self, count: int) -> None:
        """Scales, until the pods that had to go are gone, and everything has ended well so far."""
        self.world.api.patch("LeptonModel", MODEL, {"spec": {"replicas": count}}, NAMESPACE)
        self.world.settled(MODEL, NAMESPACE, count)
        self.check()

    def roll(self, number: str) -> None:
        """A rolling update, until the former pods are gone, and everything has ended well so far."""
        found = self.world.api.get("LeptonModel", MODEL, NAMESPACE)
        before = {pod["metadata"]["name"] for pod in servers(self.world.api, MODEL, NAMESPACE)}
        self.world.api.patch(
            "LeptonModel", MODEL, {"spec": {"pod": {"annotations": {"example.com/rollout": number}}}}, NAMESPACE
        )
        wait_ready(self.world.api, NAMESPACE, [MODEL], seconds=300)
        pods = self.world.settled(MODEL, NAMESPACE, found["spec"]["replicas"])
        assert not before & {pod["metadata"]["name"] for pod in pods}
        self.check()


@pytest.fixture(scope="module")
def streams(world: World) -> Iterator[Streams]:
    """So many streams as the size says, on two pods."""
    size = world.size
    world.namespace(NAMESPACE)
    world.api.create(streaming(MODEL, CPU[size.name], replicas=2), NAMESPACE)
    world.settled(MODEL, NAMESPACE, 2)
    target = world.cluster.target(f"{MODEL}-headless", NAMESPACE)
    references = tuple(asyncio.run(collect(target)))
    followed = Servers(world.api, MODEL, NAMESPACE)
    with Load(Plan("e2e", target, size.streams, size.seconds, references), size.clients) as load:
        load.wait_for(lambda records: len(records) >= size.streams, "each stream has been followed by another", 240)
        yield Streams(world, load, followed)
    followed.close()
    world.api.delete("LeptonModel", MODEL, NAMESPACE)


@pytest.mark.timeout(7200)
def test_rollouts(streams: Streams) -> None:
    for number in range(streams.world.size.rollouts):
        streams.roll(str(number))


@pytest.mark.timeout(900)
def test_new_pods_serve_the_channels_that_were_there(streams: Streams) -> None:
    streams.replicas(1)
    streams.replicas(4)
    began = time.monotonic()

    def all_serve() -> bool:
        found = [stats(pod) for pod in servers(streams.world.api, MODEL, NAMESPACE)]
        return len(found) == 4 and all(one is not None and one.running > 0 for one in found)

    eventually(all_serve, "streams on all four pods", SPREAD_SECONDS, every=0.5)
    took = time.monotonic() - began
    streams.world.figures.add("after 1 -> 4: all pods carry streams of the channels", f"{took:.1f} s", "90 s")


@pytest.mark.timeout(7200)
def test_scale_downs(streams: Streams) -> None:
    done, now = 0, 4
    while done < streams.world.size.scale_downs:
        if now == 1:
            streams.replicas(4)
            now = 4
        now -= 1
        streams.replicas(now)
        done += 1


@pytest.mark.timeout(900)
def test_a_node_is_drained(streams: Streams) -> None:
    streams.replicas(2)
    world = streams.world
    try:
        began = time.monotonic()
        flags = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout=300s")
        world.cluster.kubectl("drain", "node-b", *flags, seconds=330)
        world.figures.add("kubectl drain of a node", f"{time.monotonic() - began:.1f} s")
        pods = world.settled(MODEL, NAMESPACE, 2)
        assert {pod["spec"]["nodeName"] for pod in pods} == {"node-a"}
    finally:
        world.cluster.kubectl("uncordon", "node-b")
    streams.check()


@pytest.mark.timeout(900)
def test_the_operator_is_upgraded(streams: Streams) -> None:
    world = streams.world
    before = {pod["metadata"]["uid"] for pod in servers(world.api, MODEL, NAMESPACE)}
    operators = {pod["metadata"]["uid"] for pod in world.operators()}
    world.upgrade({"logLevel": "debug"})
    eventually(lambda: not operators & {pod["metadata"]["uid"] for pod in world.operators()}, "new operators", 120)
    eventually(world.leader, "one of them leads", 60)
    assert {pod["metadata"]["uid"] for pod in servers(world.api, MODEL, NAMESPACE)} == before
    streams.roll("after the upgrade")


@pytest.mark.timeout(900)
def test_the_operator_is_killed(streams: Streams) -> None:
    world = streams.world
    leader = eventually(world.leader, "one leads", 60)
    spec = world.api.get("LeptonModel", MODEL, NAMESPACE)["spec"]
    world.api.patch("LeptonModel", MODEL, {"spec": {"replicas": spec["replicas"] + 1}}, NAMESPACE)
    world.kill(leader, "lepton-system")
    began = time.monotonic()
    world.settled(MODEL, NAMESPACE, spec["replicas"] + 1)
    world.figures.add("operator kill -9 during a scale-up, to its end", f"{time.monotonic() - began:.1f} s")
    streams.replicas(spec["replicas"])


@pytest.mark.timeout(600)
def test_every_stream_ended_well(streams: Streams) -> None:
    figures, records = streams.world.figures, streams.load.finish()
    size = streams.world.size
    events = f"{size.rollouts} rollouts, {size.scale_downs} scale-downs, a drain, an upgrade and a kill of the operator"
    figures.streams(f"{size.streams} streams always open: {events}", records, "0 errors, every text the same")
    figures.times("seconds of a stream", [record.seconds for record in records], "20-40 s")
    figures.times("seconds to the first token", [r.first for r in records if r.first is not None])
    known = [streams.followed.served[r.name] for r in records if r.name in streams.followed.served]
    figures.add("pods that served them", f"{len(set(known))}")
    assert_good(records, least=size.streams)
    assert len(known) > len(records) // 2, "the pods' logs tell who served"
