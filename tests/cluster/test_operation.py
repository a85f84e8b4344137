"""The operator as it is run in other ways: by namespaces with Roles alone, and where PodMonitors exist."""

from collections.abc import Iterator

import pytest

from lepton_operator.rbac import rules
from tests.cluster.api import Api, eventually
from tests.cluster.control_plane import ControlPlane
from tests.cluster.models import model, wait_ready
from tests.cluster.monitors import MONITORS
from tests.cluster.monitors import install as install_monitors
from tests.cluster.operators import SHORT_LEASE, Operator

TEAM = "lepton-team"


@pytest.fixture(autouse=True)
def alone(running: Operator) -> None:
    """The shared operator is out of the way."""
    if running.process.poll() is None:
        running.stop()


def grant(api: Api, namespace: str) -> None:
    """The rights that `lepton operator rbac --namespaced` prints, in one namespace, for the team's operator."""
    api.apply({"kind": "Role", "metadata": {"name": "lepton", "namespace": namespace}, "rules": rules(namespaced=True)})
    api.apply(
        {
            "kind": "RoleBinding",
            "metadata": {"name": "lepton", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lepton"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": TEAM}],
        }
    )


def test_an_operator_of_namespaces_needs_roles_only(cluster: ControlPlane, installed: Api, namespace: str) -> None:
    second, foreign = f"{namespace}-b", f"{namespace}-c"
    for name in (second, foreign):
        installed.create({"kind": "Namespace", "metadata": {"name": name}})
    for name in (namespace, second):
        grant(installed, name)
    mark = cluster.audit.mark()
    args = (*SHORT_LEASE, f"--namespace={namespace}", f"--namespace={second}")
    team = Operator(cluster, "team", args=args, group=TEAM, home=namespace)
    try:
        for name in (foreign, namespace, second):
            installed.create(model("m", networkPolicy={"enabled": True}), name)
        for name in (namespace, second):
            wait_ready(installed, name)
        installed.delete("Deployment", "m", second)
        eventually(lambda: installed.find("Deployment", "m", second), "the Deployment is made again")
        assert "status" not in installed.get("LeptonModel", "m", foreign)
        writes = [write for write in cluster.audit.since(mark) if write.user == team.user]
        assert {write.namespace for write in writes} == {namespace, second}
        assert not [write.what for write in writes if write.code == 403]
        assert team.stop() == 0, team.text()[-2000:]
    finally:
        team.close()
        for name in (second, foreign):
            installed.delete_all("LeptonModel", name)


@pytest.fixture
def monitors(installed: Api) -> Iterator[str]:
    """The API of PodMonitors."""
    install_monitors(installed)
    yield MONITORS
    if installed.find("CustomResourceDefinition", MONITORS):
        installed.delete("CustomResourceDefinition", MONITORS)


def test_pod_monitors_are_kept_where_they_exist(
    cluster: ControlPlane, installed: Api, namespace: str, monitors: str
) -> None:
    operator = Operator(cluster, "monitors", args=SHORT_LEASE)
    try:
        created = installed.create(model("m"), namespace)
        wait_ready(installed, namespace)
        found = eventually(lambda: installed.find("PodMonitor", "m", namespace), "the PodMonitor")
        (owner,) = found["metadata"]["ownerReferences"]
        assert owner["uid"] == created["metadata"]["uid"]
        (endpoint,) = found["spec"]["podMetricsEndpoints"]
        (pod,) = installed.list("Pod", namespace)
        assert endpoint["port"] in {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        selected = ",".join(f"{key}={value}" for key, value in found["spec"]["selector"]["matchLabels"].items())
        assert len(installed.list("Pod", namespace, selected)) == 1

        installed.patch("PodMonitor", "m", {"spec": {"podMetricsEndpoints": []}}, namespace)
        eventually(
            lambda: installed.get("PodMonitor", "m", namespace)["spec"]["podMetricsEndpoints"] == [endpoint],
            "the edited PodMonitor is repaired",
        )
        installed.delete("PodMonitor", "m", namespace)
        eventually(lambda: installed.find("PodMonitor", "m", namespace), "the deleted PodMonitor comes back")

        installed.delete("CustomResourceDefinition", monitors)
        eventually(lambda: not installed.find("CustomResourceDefinition", monitors), "their API is gone")
        installed.create(model("after"), namespace)
        wait_ready(installed, namespace, ["after"])
    finally:
        operator.close()
