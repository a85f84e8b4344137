"""What the operator makes of a model, keeps so, and leaves alone: on a real API server, by the shipped command."""

import pytest

from lepton_operator.fetch.exits import FULL, NOT_FOUND, UNAUTHORIZED
from tests.cluster.api import Api, Object, eventually
from tests.cluster.kwok import FATE
from tests.cluster.models import condition, model, owned, wait_condition, wait_ready

pytestmark = pytest.mark.usefixtures("operator")
SERVER = "lepton.dev/model={},lepton.dev/component=server"


def names(found: list[Object]) -> set[str]:
    return {f"{item['kind']}/{item['metadata']['name']}" for item in found}


def test_a_model_becomes_a_service_on_gpus(api: Api, namespace: str) -> None:
    created = api.create(model("m", replicas=2, gpu={}, networkPolicy={"enabled": True}), namespace)
    wait_ready(api, namespace)
    found = owned(api, namespace)
    kinds = [item["kind"] for item in found]
    assert sorted(kinds) == [
        "Deployment",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "Service",
        "ServiceAccount",
    ]
    for item in found:
        (owner,) = item["metadata"]["ownerReferences"]
        assert owner["uid"] == created["metadata"]["uid"]
        assert owner["controller"] is True
        assert "finalizers" not in item["metadata"]
    pods = api.list("Pod", namespace, SERVER.format("m"))
    assert len(pods) == 2
    for pod in pods:
        (container,) = pod["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert "--device=cuda" in container["args"]
    status = api.get("LeptonModel", "m", namespace)["status"]
    assert [status[name] for name in ("replicas", "readyReplicas", "updatedReplicas")] == [2, 2, 2]
    assert status["endpoint"] == f"dns:///m-headless.{namespace}.svc:50051"
    scale = api.get("LeptonModel", "m", namespace, "scale")["status"]
    assert scale["replicas"] == 2
    assert len(api.list("Pod", namespace, scale["selector"])) == 2
    budget = api.get("PodDisruptionBudget", "m", namespace)["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_services_name_their_ports_and_protocol(api: Api, namespace: str) -> None:
    api.create(model("m"), namespace)
    wait_ready(api, namespace)
    by_name = {item["metadata"]["name"]: item for item in api.list("Service", namespace)}
    assert set(by_name) == {"m", "m-headless"}
    for service in by_name.values():
        ports = {port["name"]: port for port in service["spec"]["ports"]}
        assert ports["grpc"]["port"] == 50051
        assert ports["grpc"]["appProtocol"] == "kubernetes.io/h2c"
    assert by_name["m-headless"]["spec"]["clusterIP"] == "None"
    assert by_name["m"]["spec"]["clusterIP"] != "None"
    slices = eventually(
        lambda: [s for s in api.list("EndpointSlice", namespace) if s.get("endpoints")], "endpoints of the pods"
    )
    (pod,) = api.list("Pod", namespace)
    assert {address for s in slices for e in s["endpoints"] for address in e["addresses"]} == {pod["status"]["podIP"]}


def test_pods_pass_the_restricted_standard(api: Api, namespace: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.patch("Namespace", namespace, {"metadata": {"labels": labels}})
    api.create(model("m", gpu={}), namespace)
    wait_ready(api, namespace)


def test_the_pods_of_a_fetched_model_pass_it_too(api: Api, namespace: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.patch("Namespace", namespace, {"metadata": {"labels": labels}})
    digest = "0" * 64
    source = {"http": {"url": "https://example.org/model.tar", "sha256": digest}}
    api.create(model("m", model={"source": source}), namespace)
    wait_ready(api, namespace)
    (pod,) = api.list("Pod", namespace)
    (fetch,) = pod["spec"]["initContainers"]
    assert fetch["args"][:2] == ["fetch", "https://example.org/model.tar"]
    (mount,) = [m for m in pod["spec"]["containers"][0]["volumeMounts"] if m["name"] == "models"]
    assert mount["readOnly"] is True


@pytest.mark.parametrize("kind", ["Deployment", "Service", "PodDisruptionBudget", "ServiceAccount"])
def test_deleted_objects_come_back(api: Api, namespace: str, kind: str) -> None:
    api.create(model("m"), namespace)
    wait_ready(api, namespace)
    (first, *_) = [item for item in owned(api, namespace) if item["kind"] == kind]
    name, uid = first["metadata"]["name"], first["metadata"]["uid"]
    api.delete(kind, name, namespace)

    def back() -> bool:
        found = api.find(kind, name, namespace)
        return found is not None and found["metadata"]["uid"] != uid

    eventually(back, f"{kind} {name} is made again")
    wait_ready(api, namespace)


def test_edited_objects_are_repaired(api: Api, namespace: str) -> None:
    api.create(model("m"), namespace)
    wait_ready(api, namespace)
    deployment = api.get("Deployment", "m", namespace)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    image = container["image"]
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    container["image"] = "evil"
    deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 47
    api.replace({"apiVersion": "apps/v1", "kind": "Deployment", **deployment})

    def repaired() -> bool:
        spec = api.get("Deployment", "m", namespace)["spec"]["template"]["spec"]
        return bool(spec["containers"][0]["image"] == image and spec["terminationGracePeriodSeconds"] == grace)

    eventually(repaired, "image and grace are as they were")
    api.patch("Service", "m-headless", {"spec": {"publishNotReadyAddresses": True}}, namespace)
    api.patch("PodDisruptionBudget", "m", {"spec": {"maxUnavailable": 5}}, namespace)
    eventually(lambda: api.get("PodDisruptionBudget", "m", namespace)["spec"]["maxUnavailable"] == 1, "the budget")


def test_others_fields_are_left_alone(api: Api, namespace: str) -> None:
    """What a mesh or a person adds beside the operator's fields stays, through a change of the model too."""
    api.create(model("m"), namespace)
    wait_ready(api, namespace)
    sidecar = {"sidecar.istio.io/inject": "true"}
    body = {"spec": {"template": {"metadata": {"annotations": sidecar}}}, "metadata": {"labels": {"team": "red"}}}
    api.patch("Deployment", "m", body, namespace)
    api.patch("LeptonModel", "m", {"spec": {"drain": {"propagationSeconds": 5, "timeoutSeconds": 30}}}, namespace)

    def rolled() -> Object | None:
        found = api.get("Deployment", "m", namespace)
        return found if found["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 45 else None

    found = eventually(rolled, "the change of the model")
    assert found["spec"]["template"]["metadata"]["annotations"]["sidecar.istio.io/inject"] == "true"
    assert found["metadata"]["labels"]["team"] == "red"


def test_what_a_model_no_longer_asks_for_is_removed(api: Api, namespace: str) -> None:
    api.create(model("m", networkPolicy={"enabled": True}), namespace)
    wait_ready(api, namespace)
    assert any(item["kind"] == "NetworkPolicy" for item in owned(api, namespace))
    api.patch("LeptonModel", "m", {"spec": {"networkPolicy": {"enabled": False}}}, namespace)
    eventually(lambda: not any(i["kind"] == "NetworkPolicy" for i in owned(api, namespace)), "the policy is gone")
    api.patch("LeptonModel", "m", {"spec": {"pod": {"serviceAccountName": "default"}}}, namespace)
    eventually(lambda: not any(i["kind"] == "ServiceAccount" for i in owned(api, namespace)), "the account is gone")
    wait_ready(api, namespace)


def test_what_a_former_model_of_that_name_left_is_replaced(api: Api, namespace: str) -> None:
    owner = {"apiVersion": "lepton.dev/v1alpha1", "kind": "LeptonModel", "name": "m", "uid": "of-a-former-one"}
    left: Object = {
        "kind": "Service",
        "metadata": {"name": "m", "ownerReferences": [{**owner, "controller": True}]},
        "spec": {"ports": [{"name": "left", "port": 1}]},
    }
    before = api.create(left, namespace)
    api.create(model("m"), namespace)
    wait_ready(api, namespace)
    after = api.get("Service", "m", namespace)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert "left" not in [port["name"] for port in after["spec"]["ports"]]


@pytest.mark.parametrize(
    "stranger",
    [
        {"kind": "Service", "metadata": {"name": "m"}, "spec": {"ports": [{"port": 80}]}},
        {
            "kind": "Deployment",
            "metadata": {"name": "m"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"a": "b"}},
                "template": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {"containers": [{"name": "c", "image": "theirs"}]},
                },
            },
        },
    ],
    ids=lambda value: value["kind"],
)
def test_a_strangers_object_is_never_applied_over(api: Api, namespace: str, stranger: Object) -> None:
    kind = stranger["kind"]
    before = api.create(stranger, namespace)
    api.create(model("m"), namespace)
    said = wait_condition(api, "m", "Degraded", "True", "NameConflict", namespace)
    assert f"{kind} m" in said["message"] or f"{kind}/m" in said["message"] or f'{kind} "m"' in said["message"]
    after = api.get(kind, "m", namespace)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert "ownerReferences" not in after["metadata"]
    managers = {entry["manager"] for entry in after["metadata"]["managedFields"]}
    assert "lepton-operator" not in managers
    api.delete(kind, "m", namespace)
    # The operator does not watch what is not its own: it would look again after half a minute.
    api.patch("LeptonModel", "m", {"metadata": {"labels": {"look": "again"}}}, namespace)
    wait_ready(api, namespace)


def test_a_deleted_model_takes_all_with_it(api: Api, namespace: str) -> None:
    api.create(model("m", networkPolicy={"enabled": True}), namespace)
    wait_ready(api, namespace)
    assert "finalizers" not in api.get("LeptonModel", "m", namespace)["metadata"]
    api.delete("LeptonModel", "m", namespace)
    eventually(lambda: not owned(api, namespace), "all that it owned is gone")
    eventually(lambda: not api.list("Pod", namespace), "its pods are gone")


def test_a_model_made_anew_under_the_same_name(api: Api, namespace: str) -> None:
    api.create(model("m"), namespace)
    wait_ready(api, namespace)
    api.delete("LeptonModel", "m", namespace)
    created = api.create(model("m", replicas=2), namespace)
    uid = created["metadata"]["uid"]

    def owners() -> set[str]:
        return {o["uid"] for item in owned(api, namespace) for o in item["metadata"]["ownerReferences"]}

    eventually(lambda: owners() == {uid} and len(owned(api, namespace)) == 5, "everything belongs to the new one")
    wait_ready(api, namespace)
    assert api.get("LeptonModel", "m", namespace)["status"]["readyReplicas"] == 2


def test_a_change_rolls_out_without_taking_a_ready_pod(api: Api, namespace: str) -> None:
    api.create(model("m", replicas=3), namespace)
    wait_ready(api, namespace)
    before = {pod["metadata"]["name"] for pod in api.list("Pod", namespace)}
    api.patch("LeptonModel", "m", {"spec": {"server": {"image": "lepton:next"}}}, namespace)
    fewest = [3]

    def rolled() -> bool:
        found = api.get("LeptonModel", "m", namespace)
        fewest[0] = min(fewest[0], found["status"].get("readyReplicas", 0))
        new = {pod["spec"]["containers"][0]["image"] for pod in api.list("Pod", namespace)}
        return new == {"lepton:next"} and condition(found, "Ready")["status"] == "True"

    eventually(rolled, "all pods are new", every=0.02)
    wait_ready(api, namespace)
    assert fewest[0] >= 3
    assert not before & {pod["metadata"]["name"] for pod in api.list("Pod", namespace)}
    status = api.get("LeptonModel", "m", namespace)["status"]
    assert [status[name] for name in ("replicas", "readyReplicas", "updatedReplicas")] == [3, 3, 3]


def test_transitions_are_told_as_events(api: Api, namespace: str) -> None:
    api.create(model("m"), namespace)
    wait_ready(api, namespace)

    def told() -> list[Object]:
        return [e for e in api.list("Event", namespace) if e["involvedObject"]["kind"] == "LeptonModel"]

    events = eventually(told, "an Event about the model")
    assert all(event["involvedObject"]["name"] == "m" for event in events)
    assert all(event.get("source", {}).get("component") or event["reportingComponent"] for event in events)
    assert all(event["message"] for event in events)


def test_the_cache_is_a_claim_and_a_job(api: Api, namespace: str) -> None:
    """Pods wait until the Job has filled the cache; the folder that they read is the revision's."""
    source = {"huggingFace": {"repo": "owner/name"}}
    cache = {"size": "10Gi", "storageClassName": "fast"}
    api.create(model("m", model={"source": source}, cache=cache), namespace)
    eventually(lambda: "Job" in {item["kind"] for item in owned(api, namespace)}, "the Job")
    claim = api.get("PersistentVolumeClaim", "m-cache", namespace)
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"]["requests"]["storage"] == "10Gi"
    assert not any(item["kind"] == "Deployment" for item in owned(api, namespace))
    wait_condition(api, "m", "ModelCached", "False", namespace=namespace)
    api.patch("LeptonModel", "m", {"spec": {"cache": {"size": "20Gi"}}}, namespace)

    def grown() -> bool:
        found = api.get("PersistentVolumeClaim", "m-cache", namespace)
        return bool(found["spec"]["resources"]["requests"]["storage"] == "10Gi")

    assert grown()  # A claim that is not bound cannot grow: the model must say so, and not stop at it.


def volume(api: Api, name: str, namespace: str) -> None:
    """A claim that is bound: without a provisioner the test makes its volume."""
    room = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    claim = {**room, "volumeName": name, "resources": {"requests": {"storage": "1Gi"}}}
    api.create({"kind": "PersistentVolumeClaim", "metadata": {"name": "weights"}, "spec": claim}, namespace)
    reference = {"kind": "PersistentVolumeClaim", "namespace": namespace, "name": "weights"}
    spec = {**room, "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/nowhere"}, "claimRef": reference}
    path = "/api/v1/persistentvolumes"
    api.call("POST", path, {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})
    eventually(
        lambda: api.get("PersistentVolumeClaim", "weights", namespace)["status"]["phase"] == "Bound",
        "the claim is bound",
    )


HUB = {"source": {"huggingFace": {"repo": "owner/name"}}}


def test_a_filled_cache_is_mounted_read_only(api: Api, namespace: str) -> None:
    volume(api, namespace, namespace)
    api.create(model("m", model=HUB, cache={"existingClaim": "weights"}, replicas=2), namespace)
    wait_ready(api, namespace)
    wait_condition(api, "m", "ModelCached", "True", "Cached", namespace)
    (job,) = api.list("Job", namespace)
    assert job["status"]["succeeded"] == 1
    for pod in api.list("Pod", namespace, SERVER.format("m")):
        (claim,) = [v["persistentVolumeClaim"] for v in pod["spec"]["volumes"] if "persistentVolumeClaim" in v]
        assert claim == {"claimName": "weights", "readOnly": True}
        assert "initContainers" not in pod["spec"]


@pytest.mark.parametrize(
    ("code", "reason"), [(UNAUTHORIZED, "SourceUnauthorized"), (NOT_FOUND, "SourceNotFound"), (FULL, "CacheFull")]
)
def test_a_fetch_that_fails_for_good_says_why(api: Api, namespace: str, code: int, reason: str) -> None:
    """The Job's pod ends as `lepton fetch` would: its status is written here, as no kubelet does."""
    volume(api, namespace, namespace)
    body = model("m", model=HUB, cache={"existingClaim": "weights"}, pod={"labels": {FATE: "left-alone"}})
    api.create(body, namespace)

    def assigned() -> Object | None:
        found = api.list("Pod", namespace)
        return found[0] if found and found[0]["spec"].get("nodeName") else None

    pod = eventually(assigned, "the Job's pod has a node")
    ended = {"exitCode": code, "reason": "Error", "message": '{"error": "owner/name: in its own words"}'}
    container = {"name": "fetch", "image": "i", "imageID": "i", "restartCount": 0, "ready": False}
    status = {"phase": "Failed", "containerStatuses": [{**container, "state": {"terminated": ended}}]}
    api.patch("Pod", pod["metadata"]["name"], {"status": status}, namespace, "status")
    said = wait_condition(api, "m", "ModelCached", "False", reason, namespace)
    assert said["message"] == "owner/name: in its own words"
    wait_condition(api, "m", "Degraded", "True", reason, namespace)
    assert not api.list("Deployment", namespace)
