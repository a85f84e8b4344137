"""Fifty settled models: nothing is written; an upgrade of the operator leaves their pods alone."""

import time
from collections.abc import Iterator

import pytest

from tests.cluster import life
from tests.cluster.api import Api, Object, eventually
from tests.cluster.audit import Write
from tests.cluster.control_plane import ControlPlane
from tests.cluster.models import model, wait_ready
from tests.cluster.operators import SHORT_LEASE, Operator, quiet

MODELS = 50
REST_SECONDS = 30
NAMESPACE = "quiet"


@pytest.fixture(scope="module")
def settled(cluster: ControlPlane, installed: Api, running: Operator) -> Iterator[str]:
    if running.process.poll() is not None:
        running.restart(SHORT_LEASE)
    installed.create({"kind": "Namespace", "metadata": {"name": NAMESPACE}})
    bodies = [model(f"m{i:02}", networkPolicy={"enabled": i % 2 == 0}) for i in range(MODELS)]
    bodies[1]["spec"]["rollout"] = {"onUpgrade": "Roll"}
    life.in_parallel([lambda body=body: installed.create(body, NAMESPACE) for body in bodies])  # type: ignore[misc]
    wait_ready(installed, NAMESPACE, seconds=120)
    quiet(cluster, [running.user], still=2)
    yield NAMESPACE
    installed.delete_all("LeptonModel", NAMESPACE)


def others(plane: ControlPlane, mark: int, user: str) -> list[str]:
    """What a user wrote since then, but for Leases."""

    def of_interest(write: Write) -> bool:
        return write.user == user and write.resource != "leases"

    return [write.what for write in plane.audit.since(mark) if of_interest(write)]


def generations(api: Api) -> dict[str, int]:
    return {d["metadata"]["name"]: d["metadata"]["generation"] for d in api.list("Deployment", NAMESPACE)}


def test_at_rest_only_the_lease_is_written(cluster: ControlPlane, settled: str, operator: Operator) -> None:
    mark = cluster.audit.mark()
    cpu = operator.cpu_seconds()
    time.sleep(REST_SECONDS)
    assert others(cluster, mark, operator.user) == []
    leases = [w for w in cluster.audit.since(mark) if w.user == operator.user and w.resource == "leases"]
    assert leases, "the leader renews"
    assert operator.cpu_seconds() - cpu < REST_SECONDS / 4


def test_a_restart_writes_nothing(cluster: ControlPlane, api: Api, settled: str, operator: Operator) -> None:
    before = generations(api)
    operator.stop()
    mark = cluster.audit.mark()
    operator.restart()
    eventually(lambda: looked(cluster, operator, mark), "it leads")
    quiet(cluster, [operator.user], still=5)
    assert others(cluster, mark, operator.user) == []
    assert generations(api) == before


def looked(plane: ControlPlane, operator: Operator, mark: int) -> bool:
    return any(w.user == operator.user and w.resource == "leases" and w.code < 300 for w in plane.audit.since(mark))


def templates(api: Api) -> dict[str, Object]:
    return {d["metadata"]["name"]: d["spec"]["template"] for d in api.list("Deployment", NAMESPACE)}


def test_an_upgrade_patches_no_template_but_where_asked(
    cluster: ControlPlane, api: Api, settled: str, operator: Operator
) -> None:
    before = templates(api)
    operator.stop()
    operator.restart([*SHORT_LEASE, "--server-image=lepton-server:next", "--server-arg=--max-num-batched-tokens=4096"])
    try:
        eventually(
            lambda: templates(api)["m01"]["spec"]["containers"][0]["image"] == "lepton-server:next",
            "the one with onUpgrade: Roll rolls",
        )
        quiet(cluster, [operator.user], still=3)
        after = templates(api)
        assert {name for name in before if after[name] != before[name]} == {"m01"}
        # A change of the spec takes the new defaults.
        api.patch("LeptonModel", "m02", {"spec": {"drain": {"timeoutSeconds": 20}}}, settled)
        eventually(
            lambda: templates(api)["m02"]["spec"]["containers"][0]["image"] == "lepton-server:next",
            "the changed one takes the new image",
        )
        wait_ready(api, settled)
    finally:
        operator.stop()
        operator.restart(SHORT_LEASE)
