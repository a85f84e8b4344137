"""Killed at any moment, the operator ends where an undisturbed one does; so when the API server or etcd restart."""

import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.cluster import life
from tests.cluster.api import Api, Object, eventually
from tests.cluster.control_plane import ControlPlane
from tests.cluster.models import collected, differences, normal
from tests.cluster.operators import NO_LEASE, Operator, quiet

State = dict[str, Object]
MODELS = 50
KILLS = 5
SEED = 7


def lived(api: Api, plane: ControlPlane, operator: Operator, namespace: str, seconds: float) -> State:
    """The normal end state of a life in a new namespace."""
    api.create({"kind": "Namespace", "metadata": {"name": namespace}})
    life.live(api, namespace, life.script(MODELS, SEED), seconds)
    settle(api, plane, operator, namespace)
    return normal(api, namespace)


def settle(api: Api, plane: ControlPlane, operator: Operator, namespace: str) -> None:
    """Wait until all models are settled, and the operator writes no more."""

    def settled() -> bool:
        found = [state for name, state in normal(api, namespace).items() if name.startswith("LeptonModel/")]
        return all(
            state["settled"] and ["Ready", "True"] in [[kind, status] for kind, status, _ in state["conditions"]]
            for state in found
        )

    eventually(settled, f"all models of {namespace} ready", 120, every=0.5)
    eventually(lambda: collected(api, namespace), "garbage is collected", 120, every=0.5)
    quiet(plane, [operator.user], still=2)


@pytest.fixture(scope="module")
def subject(cluster: ControlPlane, installed: Api, running: Operator) -> Iterator[Operator]:
    """An operator that leads as soon as it runs, so that every kill hits one at work."""
    if running.process.poll() is None:
        running.stop()
    started = Operator(cluster, "subject", args=NO_LEASE)
    yield started
    started.close()


@pytest.fixture(scope="module")
def undisturbed(cluster: ControlPlane, installed: Api, subject: Operator) -> State:
    """The end state when nothing goes wrong."""
    state = lived(installed, cluster, subject, "undisturbed", 5)
    assert sum(name.startswith("LeptonModel/") for name in state) == MODELS - MODELS // 10
    installed.delete_all("LeptonModel", "undisturbed")
    return state


def same(api: Api, namespace: str, expected: State) -> None:
    found = differences(expected, normal(api, namespace))
    assert not found, "\n".join(line[:500] for line in found[:10])


def disturb(moments: list[float], what: Callable[[], None]) -> threading.Thread:
    """Do something at these moments from now, in a thread."""
    begin = time.monotonic()

    def run() -> None:
        for moment in moments:
            time.sleep(max(0.0, begin + moment - time.monotonic()))
            what()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_kill_9_at_random_moments(cluster: ControlPlane, installed: Api, subject: Operator, undisturbed: State) -> None:
    chance = random.Random(SEED)
    moments = sorted(chance.uniform(0.2, 14) for _ in range(KILLS))

    def kill() -> None:
        subject.kill()
        subject.restart()

    thread = disturb(moments, kill)
    try:
        installed.create({"kind": "Namespace", "metadata": {"name": "killed"}})
        life.live(installed, "killed", life.script(MODELS, SEED), 15)
    finally:
        thread.join()
    settle(installed, cluster, subject, "killed")
    same(installed, "killed", undisturbed)
    installed.delete_all("LeptonModel", "killed")


@pytest.mark.parametrize("program", ["kube-apiserver", "etcd"])
def test_the_control_plane_restarts(
    cluster: ControlPlane, installed: Api, subject: Operator, undisturbed: State, program: str
) -> None:
    if program not in cluster.programs:
        pytest.skip("not our own control plane")
    namespace = f"restarted-{program}"
    thread = disturb([1.5], lambda: cluster.restart(program, wait=False))
    try:
        eventually(lambda: _made(installed, namespace), "the namespace", every=0.2)
        life.live(installed, namespace, life.script(MODELS, SEED), 6)
    finally:
        thread.join()
    cluster.recover()
    settle(installed, cluster, subject, namespace)
    same(installed, namespace, undisturbed)
    installed.delete_all("LeptonModel", namespace)


def _made(api: Api, namespace: str) -> bool:
    api.apply({"kind": "Namespace", "metadata": {"name": namespace}})
    return True
