"""What cannot work says so, in conditions with the cluster's own words, and harms nothing else."""

import json
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import count

import pytest

from tests.cluster.api import Api, ApiError, Object, eventually
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kwok import FATE
from tests.cluster.life import in_parallel
from tests.cluster.models import largest, model, owned, wait_condition, wait_ready
from tests.cluster.operators import GROUP, Operator, quiet

pytestmark = pytest.mark.usefixtures("operator")


def fated(fate: str, **spec: object) -> Object:
    return model("m", pod={"annotations": {FATE: fate}}, **spec)


def test_an_image_that_does_not_exist(api: Api, namespace: str) -> None:
    api.create(fated("image-pull", server={"image": "nowhere.example/none:1"}), namespace)
    said = wait_condition(api, "m", "Degraded", "True", "ImagePull", namespace)
    assert "Back-off pulling image" in said["message"]
    wait_condition(api, "m", "Ready", "False", namespace=namespace)
    wait_condition(api, "m", "Available", "False", "NoPodServing", namespace)


def test_a_pod_that_ends_again_and_again(api: Api, namespace: str) -> None:
    api.create(fated("crash"), namespace)
    wait_condition(api, "m", "Degraded", "True", "CrashLooping", namespace)


def test_a_pod_that_never_becomes_ready(api: Api, namespace: str, cluster: ControlPlane, operator: Operator) -> None:
    api.create(fated("never-ready"), namespace)
    wait_condition(api, "m", "Ready", "False", "Creating", namespace)
    eventually(lambda: api.list("Pod", namespace), "the pod")
    quiet(cluster, [operator.user], still=2)
    wait_condition(api, "m", "Available", "False", "NoPodServing", namespace)


def test_a_claim_that_does_not_exist(api: Api, namespace: str) -> None:
    api.create(model("m", model={"source": {"pvc": {"claim": "none"}}}), namespace)
    said = wait_condition(api, "m", "Degraded", "True", "VolumeNotFound", namespace)
    assert 'persistentvolumeclaim "none" not found' in said["message"]
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": "v"}
    api.create({"kind": "PersistentVolumeClaim", "metadata": {"name": "none"}, "spec": claim}, namespace)


def test_a_secret_that_does_not_exist(api: Api, namespace: str) -> None:
    """kwok has no kubelet that mounts: its words are written by the test."""
    source = {"source": {"http": {"url": "https://example.org/m.tar", "sha256": "0" * 64}}}
    api.create(fated("left-alone", model={**source, "secretRef": {"name": "none"}}), namespace)
    (pod,) = eventually(lambda: api.list("Pod", namespace), "the pod")
    event = {
        "kind": "Event",
        "metadata": {"name": "mount", "namespace": namespace},
        "type": "Warning",
        "reason": "FailedMount",
        "message": 'MountVolume.SetUp failed for volume "credentials" : secret "none" not found',
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": pod["metadata"]["name"],
            "namespace": namespace,
            "uid": pod["metadata"]["uid"],
        },
        "source": {"component": "kubelet"},
    }
    api.create(event, namespace)
    said = wait_condition(api, "m", "Degraded", "True", "SecretNotFound", namespace)
    assert 'secret "none" not found' in said["message"]


def test_a_quota_that_forbids_pods(api: Api, namespace: str) -> None:
    api.create({"kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}, namespace)
    eventually(lambda: api.list("ResourceQuota", namespace)[0].get("status", {}).get("hard"), "the quota counts")
    api.create(model("m"), namespace)
    said = wait_condition(api, "m", "Degraded", "True", "QuotaExceeded", namespace)
    assert "exceeded quota: none" in said["message"]
    api.delete("ResourceQuota", "none", namespace)
    wait_ready(api, namespace, seconds=120)
    wait_condition(api, "m", "Degraded", "False", "AsExpected", namespace)


def test_pods_that_the_namespace_forbids(api: Api, namespace: str) -> None:
    """A limit range, or any other admission rule, that refuses the pods."""
    limits = [{"type": "Container", "max": {"cpu": "1"}}]
    path = f"/api/v1/namespaces/{namespace}/limitranges"
    api.call("POST", path, {"metadata": {"name": "small"}, "spec": {"limits": limits}})
    big = {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}}
    api.create(model("m", pod=big), namespace)
    said = wait_condition(api, "m", "Degraded", "True", "PodsForbidden", namespace)
    assert "maximum cpu usage per Container is 1" in said["message"]


def test_no_node_with_such_a_gpu(api: Api, namespace: str) -> None:
    api.create(model("m", gpu={"resource": "nvidia.com/mig-1g.10gb", "count": 2}), namespace)
    said = wait_condition(api, "m", "Degraded", "True", "InsufficientGPU", namespace)
    assert "Insufficient nvidia.com/mig-1g.10gb" in said["message"]


def test_no_room_for_one_pod_more_during_a_rollout(api: Api, namespace: str) -> None:
    """Both nodes are full. Wait says so and keeps serving; ReplaceInPlace makes room."""
    api.create(model("m", replicas=2, gpu={"count": 8}), namespace)
    wait_ready(api, namespace)
    api.patch("LeptonModel", "m", {"spec": {"server": {"image": "lepton:next"}}}, namespace)
    said = wait_condition(api, "m", "Degraded", "True", "RolloutDeadlocked", namespace)
    assert "Insufficient nvidia.com/gpu" in said["message"]
    assert api.get("LeptonModel", "m", namespace)["status"]["readyReplicas"] == 2
    wait_condition(api, "m", "Available", "True", "PodsServing", namespace)
    api.patch("LeptonModel", "m", {"spec": {"rollout": {"whenFull": "ReplaceInPlace"}}}, namespace)
    wait_ready(api, namespace)
    assert {p["spec"]["containers"][0]["image"] for p in api.list("Pod", namespace)} == {"lepton:next"}
    # Afterwards the rule is the usual one again.
    eventually(
        lambda: api.get("Deployment", "m", namespace)["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 1,
        "a surge is allowed again",
    )


def test_models_deleted_while_they_are_created(api: Api, namespace: str, operator: Operator) -> None:
    for number in range(20):
        api.create(model(f"m{number}"), namespace)
        if number % 2:
            eventually(partial(api.find, "Deployment", f"m{number}", namespace), "the Deployment", every=0.01)
        api.delete("LeptonModel", f"m{number}", namespace)
    eventually(lambda: not owned(api, namespace), "nothing is left")
    eventually(lambda: not api.list("Pod", namespace), "no pod is left")
    assert operator.process.poll() is None


def test_a_namespace_that_is_being_terminated(
    cluster: ControlPlane, api: Api, namespace: str, operator: Operator
) -> None:
    api.create(model("m", networkPolicy={"enabled": True}), namespace)
    wait_ready(api, namespace)
    mark = cluster.audit.mark()
    api.delete("Namespace", namespace)
    eventually(lambda: api.find("Namespace", namespace) is None, "the namespace is gone")
    quiet(cluster, [operator.user])
    refused = [w for w in cluster.audit.since(mark) if w.user == operator.user and w.namespace == namespace]
    assert len(refused) < 50, "it does not try again and again"
    assert operator.process.poll() is None


@pytest.fixture
def throttled(cluster: ControlPlane, api: Api) -> Iterator[None]:
    """Of the operator's writes the API server takes one at a time: real 429s for others, by priority and fairness."""
    path = "/apis/flowcontrol.apiserver.k8s.io/v1"
    level = {
        "metadata": {"name": "tests-none"},
        "spec": {
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 0,
                "lendablePercent": 0,
                "borrowingLimitPercent": 0,
                "limitResponse": {"type": "Reject"},
            },
        },
    }
    rules = {
        "subjects": [{"kind": "Group", "group": {"name": GROUP}}],
        "resourceRules": [
            {
                "verbs": ["create", "patch", "update", "delete"],
                "apiGroups": ["apps", "policy", ""],
                "resources": ["*"],
                "namespaces": ["*"],
                "clusterScope": True,
            }
        ],
    }
    schema = {
        "metadata": {"name": "tests-none"},
        "spec": {
            "priorityLevelConfiguration": {"name": "tests-none"},
            "matchingPrecedence": 2,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [rules],
        },
    }
    api.call("POST", f"{path}/prioritylevelconfigurations", level)
    api.call("POST", f"{path}/flowschemas", schema)
    yield
    for resource in ("flowschemas", "prioritylevelconfigurations"):
        with suppress(ApiError):  # The test has removed the first.
            api.call("DELETE", f"{path}/{resource}/tests-none")


def test_an_api_server_that_is_too_busy(
    cluster: ControlPlane, api: Api, namespace: str, operator: Operator, throttled: None
) -> None:
    mark = cluster.audit.mark()

    def refused() -> int:
        found = [w for w in cluster.audit.since(mark) if w.user == operator.user]
        return sum(w.code == 429 for w in found)

    # An empty level lets one request in: it takes several at once, until the server obeys the rule and refuses some.
    made = count()

    def create() -> bool:
        bodies = [model(f"m{next(made)}") for _ in range(10)]
        in_parallel([partial(api.create, body, namespace) for body in bodies])
        return refused() > 0

    eventually(create, "the operator is refused", every=0.5)
    api.call("DELETE", "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/tests-none")
    wait_ready(api, namespace)
    assert operator.process.poll() is None
    assert refused() < 500, "it waits between its attempts"


def test_conflicting_status_writers(api: Api, namespace: str, cluster: ControlPlane, operator: Operator) -> None:
    """Somebody writes the status beside the operator: it puts its own back, and rests."""
    api.create(model("m"), namespace)
    wait_ready(api, namespace)
    for number in range(20):
        api.patch("LeptonModel", "m", {"status": {"replicas": number, "readyReplicas": number}}, namespace, "status")
    eventually(lambda: api.get("LeptonModel", "m", namespace)["status"]["replicas"] == 1, "the truth")
    quiet(cluster, [operator.user])


def test_a_spec_of_the_largest_size_is_carried_out(api: Api, namespace: str) -> None:
    """The template is large; what the operator notes on its objects must still fit an annotation."""
    body = largest()
    assert len(json.dumps(body)) > 400_000
    api.create(body, namespace)
    name = body["metadata"]["name"]
    made = eventually(lambda: api.find("Deployment", name, namespace), "the Deployment")
    pod = made["spec"]["template"]["spec"]
    assert pod["affinity"]["podAffinity"] == body["spec"]["pod"]["affinity"]["podAffinity"]
    assert len(pod["containers"][0]["env"]) > 32
