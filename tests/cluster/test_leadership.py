"""Two operators on a real API server: one leads, and whatever becomes of it, the other does soon."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from lepton_operator.settings import REQUEST_TIMEOUT, LeaseSettings
from tests.cluster.api import Api, eventually
from tests.cluster.control_plane import ControlPlane
from tests.cluster.leadership import Terms, renewals, trespasses
from tests.cluster.models import model, wait_ready
from tests.cluster.operators import NAMESPACE, Operator
from tests.cluster.relay import Relay

LEASE = "lepton-operator"
TERMS = Terms(LeaseSettings.duration, REQUEST_TIMEOUT)
TAKEOVER_SECONDS = 20


@pytest.fixture(scope="module")
def alone(running: Operator) -> None:
    """The shared operator is out of the way."""
    if running.process.poll() is None:
        running.stop()


@pytest.fixture
def pair(cluster: ControlPlane, installed: Api, alone: None) -> Iterator[tuple[Operator, Operator]]:
    """Two operators with the Lease as it is shipped; the first leads."""
    leader = Operator(cluster, "first", args=())
    eventually(lambda: holder(installed).startswith("operator-first"), "the first leads")
    other = Operator(cluster, "second", args=())
    yield leader, other
    for one in (leader, other):
        one.close()
    if installed.find("Lease", LEASE, NAMESPACE):
        installed.delete("Lease", LEASE, NAMESPACE)


def holder(api: Api) -> str:
    """Who holds the Lease."""
    found = api.find("Lease", LEASE, NAMESPACE)
    return str((found or {}).get("spec", {}).get("holderIdentity") or "")


def takes_over(api: Api, name: str, since: float) -> float:
    """Seconds from then until this operator holds the Lease."""
    eventually(lambda: holder(api).startswith(f"operator-{name}"), f"{name} leads", TAKEOVER_SECONDS, every=0.05)
    return time.monotonic() - since


def check(plane: ControlPlane, mark: int) -> None:
    """No write of anybody who did not lead."""
    writes = list(plane.audit.since(mark))
    assert renewals(writes)
    assert not trespasses(writes, TERMS, ["operator-first", "operator-second"])


def test_a_killed_leader_is_followed(
    cluster: ControlPlane, api: Api, pair: tuple[Operator, Operator], namespace: str
) -> None:
    mark = 0
    leader, _ = pair
    leader.kill()
    takes_over(api, "second", time.monotonic())
    api.create(model("m"), namespace)
    wait_ready(api, namespace)
    check(cluster, mark)


def test_a_stopped_leader_gives_way_at_once(
    cluster: ControlPlane, api: Api, pair: tuple[Operator, Operator], namespace: str
) -> None:
    leader, other = pair
    assert leader.stop() == 0
    since = time.monotonic()
    # Well before the Lease would have run out.
    eventually(lambda: holder(api).startswith("operator-second"), "the second leads", 10, every=0.05)
    api.create(model("m"), namespace)
    wait_ready(api, namespace)
    assert time.monotonic() - since < TAKEOVER_SECONDS
    assert other.process.poll() is None


def test_a_frozen_leader_writes_nothing_when_it_wakes(
    cluster: ControlPlane, api: Api, pair: tuple[Operator, Operator], namespace: str
) -> None:
    leader, _ = pair
    api.create(model("m"), namespace)
    wait_ready(api, namespace)
    os.kill(leader.process.pid, signal.SIGSTOP)
    api.patch("LeptonModel", "m", {"spec": {"replicas": 2}}, namespace)
    takes_over(api, "second", time.monotonic())
    wait_ready(api, namespace)
    # Work waits for it: it must not touch that.
    api.create(model("n"), namespace)
    os.kill(leader.process.pid, signal.SIGCONT)
    assert leader.process.wait(30) != 0, "who has lost the Lease ends, to be restarted"
    wait_ready(api, namespace)
    check(cluster, 0)


def test_a_leader_that_is_cut_off_ends_and_is_followed(
    cluster: ControlPlane, api: Api, alone: None, namespace: str
) -> None:
    relay = Relay(cluster)
    leader = Operator(cluster, "cut", args=(), server=relay.server)
    other = None
    try:
        eventually(lambda: holder(api).startswith("operator-cut"), "the first leads")
        other = Operator(cluster, "second", args=())
        api.create(model("m"), namespace)
        wait_ready(api, namespace)
        relay.cut()
        since = time.monotonic()
        api.patch("LeptonModel", "m", {"spec": {"replicas": 2}}, namespace)
        takes_over(api, "second", since)
        wait_ready(api, namespace)
        assert leader.process.wait(30) != 0
        relay.mend()  # What it had sent arrives now.
        api.patch("LeptonModel", "m", {"spec": {"replicas": 3}}, namespace)
        wait_ready(api, namespace)
        writes = list(cluster.audit.since(0))
        assert not trespasses(writes, TERMS, ["operator-cut", "operator-second"])
    finally:
        leader.close()
        if other is not None:
            other.close()
        relay.close()
        if api.find("Lease", LEASE, NAMESPACE):
            api.delete("Lease", LEASE, NAMESPACE)
