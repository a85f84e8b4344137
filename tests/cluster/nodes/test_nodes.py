"""Two real nodes do what a cluster does: pods, services, names, GPUs, evictions."""

import itertools
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest

from tests.cluster.api import Api, Object, eventually
from tests.cluster.nodes import echo
from tests.cluster.nodes.cluster import CommandError, NodeCluster
from tests.cluster.nodes.packages import NodesError

NUMBERS = itertools.count()


@pytest.fixture
def api(nodes: NodeCluster) -> Api:
    return nodes.api


@pytest.fixture
def namespace(api: Api, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"{re.sub(r'[^a-z0-9]+', '-', request.node.name.lower())[:50].strip('-')}-{next(NUMBERS)}"
    api.create({"kind": "Namespace", "metadata": {"name": name}})
    eventually(lambda: api.find("ServiceAccount", "default", name), "its ServiceAccount")
    yield name
    api.delete("Namespace", name)
    eventually(lambda: api.find("Namespace", name) is None, f"namespace {name} is gone", 90)


def gpus(api: Api, node: str) -> str:
    allocatable: Object = api.get("Node", node)["status"].get("allocatable", {})
    return str(allocatable.get("nvidia.com/gpu", ""))


def test_both_are_ready_at_their_own_addresses(nodes: NodeCluster, api: Api) -> None:
    for node in nodes.nodes.values():
        assert nodes.ready(node.name)
        addresses = {entry["type"]: entry["address"] for entry in api.get("Node", node.name)["status"]["addresses"]}
        assert addresses == {"InternalIP": node.address, "Hostname": node.name}


def test_pods_reach_each_other_by_service_and_name_and_the_host_reaches_them(
    nodes: NodeCluster, api: Api, namespace: str
) -> None:
    api.create(echo.service("b"), namespace)
    pods: dict[str, Object] = {}
    for name, node in (("a", "node-a"), ("b", "node-b")):
        api.create(echo.pod(name, node), namespace)
        pods[name] = echo.wait_ready(api, name, namespace)
        assert pods[name]["spec"]["nodeName"] == node
    a, address = pods["a"]["status"]["podIP"], api.get("Service", "b", namespace)["spec"]["clusterIP"]
    assert echo.fetch(f"http://{a}:8080/") == "a"  # From the host to a pod.
    eventually(lambda: echo.fetch(f"http://{address}:8080/") == "b", "the service answers the host")
    name = f"b.{namespace}.svc.cluster.local"
    for host in (address, name):  # From a pod to the other node's pod.
        url = f"http://{a}:8080/?url=http://{host}:8080/"
        eventually(partial(echo.answers, url, "b"), f"{host} answers a pod")
    (pid,) = nodes.processes("b", namespace)
    assert echo.resident(pid)
    assert nodes.kubectl("logs", "-n", namespace, "b") == ""


def test_a_client_on_the_host_resolves_names_by_the_cluster(nodes: NodeCluster, api: Api, namespace: str) -> None:
    """The pods speak no gRPC: what shows is where the channel went, by what it says of it."""
    api.create(echo.service("c", headless=True), namespace)
    api.create(echo.pod("c", "node-b"), namespace)
    pod = echo.wait_ready(api, "c", namespace)

    def says() -> str:
        with grpc.insecure_channel(nodes.target("c-headless", namespace, 9)) as channel:
            try:
                channel.unary_unary("/a/b", bytes, bytes)(b"", timeout=5)
            except grpc.RpcError as error:
                return str(error)
        return ""

    where = f"{pod['status']['podIP']}:9"
    eventually(lambda: where in says(), f"the channel tries {where}")


def test_gpus_are_handed_out_and_the_fifth_pod_waits(nodes: NodeCluster, api: Api, namespace: str) -> None:
    eventually(lambda: gpus(api, "node-a") == "4", "four GPUs on node-a")
    for number in range(4):
        api.create(echo.pod(f"gpu-{number}", "node-a", gpus=1), namespace)
    for number in range(4):
        echo.wait_ready(api, f"gpu-{number}", namespace)
    api.create(echo.pod("fifth", "node-a", gpus=1), namespace)

    def why() -> str:
        conditions = api.get("Pod", "fifth", namespace)["status"].get("conditions", [])
        return next((condition.get("message", "") for condition in conditions), "")

    assert "Insufficient nvidia.com/gpu" in eventually(why, "a reason why the fifth waits")
    api.delete("Pod", "gpu-0", namespace)
    echo.wait_ready(api, "fifth", namespace)


def test_the_device_plugin_registers_with_a_new_kubelet(nodes: NodeCluster, api: Api, namespace: str) -> None:
    api.create(echo.pod("stays", "node-a", gpus=1), namespace)
    echo.wait_ready(api, "stays", namespace)
    (before,) = nodes.processes("stays", namespace)
    registered = nodes.log("node-a", "gpus").count("registered")
    nodes.restart_kubelet("node-a")
    eventually(lambda: nodes.log("node-a", "gpus").count("registered") > registered, "it has registered again")
    eventually(lambda: nodes.ready("node-a") and gpus(api, "node-a") == "4", "node-a with four GPUs")
    assert nodes.processes("stays", namespace) == [before]
    api.create(echo.pod("next", "node-a", gpus=3), namespace)
    echo.wait_ready(api, "next", namespace)


def test_a_drain_heeds_the_disruption_budget(nodes: NodeCluster, api: Api, namespace: str) -> None:
    api.create(echo.deployment("web", 2), namespace)
    selector = {"matchLabels": {"app": "web"}}
    budget = {"kind": "PodDisruptionBudget", "metadata": {"name": "web"}}
    api.create({**budget, "spec": {"minAvailable": 2, "selector": selector}}, namespace)

    def ready() -> bool:
        status = api.get("Deployment", "web", namespace)["status"]
        allowed = api.get("PodDisruptionBudget", "web", namespace).get("status", {})
        return bool(status.get("readyReplicas") == 2 and allowed.get("currentHealthy") == 2)

    eventually(ready, "two pods")
    drain = ("drain", "node-b", "--ignore-daemonsets", "--delete-emptydir-data", "--force")
    try:
        with pytest.raises(CommandError, match="disruption budget"):
            nodes.kubectl(*drain, "--timeout=5s", "--pod-selector=app=web")
        api.patch("PodDisruptionBudget", "web", {"spec": {"minAvailable": 1}}, namespace)
        nodes.kubectl(*drain, "--timeout=60s", "--pod-selector=app=web")
        eventually(ready, "two pods again")
        assert {pod["spec"]["nodeName"] for pod in api.list("Pod", namespace) if echo.ready(pod)} == {"node-a"}
    finally:
        nodes.kubectl("uncordon", "node-b")


def test_a_killed_node_is_not_ready_its_pods_move_and_it_comes_back(
    nodes: NodeCluster, api: Api, namespace: str
) -> None:
    """node-a dies, through which the host reached the services."""
    api.create(echo.service("moved"), namespace)
    api.create(echo.deployment("moved", 2), namespace)

    def where() -> list[str]:
        return sorted(pod["spec"]["nodeName"] for pod in api.list("Pod", namespace) if echo.ready(pod))

    eventually(lambda: where() == ["node-a", "node-b"], "a pod on each")
    dead = nodes.nodes["node-a"].pid
    nodes.kill_node("node-a")
    try:
        assert nodes.nodes["node-a"].pid == 0
        assert not echo.resident(dead)
        eventually(lambda: not nodes.ready("node-a"), "node-a is not Ready", 60)
        eventually(lambda: where() == ["node-b", "node-b"], "both pods on node-b", 60)
        address = api.get("Service", "moved", namespace)["spec"]["clusterIP"]
        eventually(lambda: echo.fetch(f"http://{address}:8080/"), "the service answers the host")
    finally:
        nodes.start_node("node-a")
    nodes.wait_ready("node-a")
    eventually(lambda: gpus(api, "node-a") == "4", "its GPUs")
    api.create(echo.pod("again", "node-a"), namespace)
    assert echo.fetch(f"http://{echo.wait_ready(api, 'again', namespace)['status']['podIP']}:8080/") == "again"


def test_an_archive_that_is_none_is_refused(nodes: NodeCluster, tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_text("no archive")
    with pytest.raises(NodesError, match=r"node-[ab] does not import .*image\.tar"):
        nodes.import_image(tmp_path / "image.tar")


def test_a_failing_command_says_what_it_said(nodes: NodeCluster) -> None:
    with pytest.raises(CommandError, match='namespaces "nowhere" not found'):
        nodes.kubectl("get", "namespace", "nowhere")
