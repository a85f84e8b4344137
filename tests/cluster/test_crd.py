"""The CustomResourceDefinition on a real API server: every rule broken once, and what it says then."""

import json
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from lepton_operator.crd import crd
from tests.cluster.api import Api, ApiError, Object, eventually
from tests.cluster.control_plane import ControlPlane
from tests.cluster.models import largest, model
from tests.cluster.operators import install

NAME = "leptonmodels.lepton.dev"


@pytest.fixture(scope="module")
def schema() -> Object:
    (version,) = crd()["spec"]["versions"]
    found: Object = version["schema"]["openAPIV3Schema"]
    return found


def source(**sources: Object) -> Object:
    return {"source": sources}


FETCHED = source(huggingFace={"repo": "a/b"})
GROWN = {"size": "20Gi", "accessMode": "ReadWriteMany", "storageClassName": "fast"}

# What is asked for, and a part of what the server must say: its own words or a rule's message.
REFUSED_AT_CREATION: list[tuple[Object, str]] = [
    (model(model=source()), "give exactly one source: huggingFace, pvc, s3, gcs, http, oci, embedded"),
    (model(model=source(embedded={}, http={"url": "https://example.org/a.tar"})), "give exactly one source"),
    (model(model=source(embedded={"path": "models"})), "embedded.path must be absolute: begin it with '/'"),
    (model(model=source(embedded={"path": "/models/../etc"})), "the path may not contain '..'"),
    (model(model=source(pvc={"claim": "c", "path": "a/../.."})), "the path may not contain '..'"),
    (model(model=source(oci={"image": "i", "path": "../x"})), "the path may not contain '..'"),
    (model(model=FETCHED, cache={}), "give either cache.size"),
    (model(model=FETCHED, cache={"size": "1Gi", "existingClaim": "c"}), "give either cache.size"),
    (model(cache={"size": "1Gi"}), "cache is for sources that are fetched: huggingFace, s3, gcs, http"),
    (model(model={**source(oci={"image": "i"}), "secretRef": {"name": "s"}}), "for oci use pod.imagePullSecrets"),
    (
        model(model=FETCHED, cache={"size": "1Gi", "accessMode": "ReadWriteOnce"}, replicas=2),
        "a ReadWriteOnce cache allows one replica: use ReadWriteMany, or no cache, for more",
    ),
    (
        model(model=FETCHED, cache={"size": "1Gi", "accessMode": "ReadWriteOnce"}, autoscaling={"maxReplicas": 2}),
        "a ReadWriteOnce cache allows one replica",
    ),
    (
        model(autoscaling={"minReplicas": 3, "maxReplicas": 2}),
        "autoscaling.minReplicas must be at most autoscaling.maxReplicas",
    ),
    (
        model(autoscaling={"maxReplicas": 2, "panicSeconds": 90}),
        "autoscaling.panicSeconds must be at most autoscaling.stableSeconds",
    ),
    (model(autoscaling={"minReplicas": 0, "maxReplicas": 2}), "spec.autoscaling.minReplicas in body should be greater"),
    (model(autoscaling={}), "spec.autoscaling.maxReplicas: Required value"),
    (
        model(rollout={"maxSurge": 0, "maxUnavailable": 0}),
        "rollout.maxSurge and rollout.maxUnavailable may not both be 0",
    ),
    (model(server={"args": ["--port=1"]}), "server.args may not set what other fields of the spec set: --host"),
    (model(server={"args": ["x" * 1024] * 6}), "server.args may have "),
    (model(pod={"labels": {"lepton.dev/x": "y"}}), "pod.labels may not begin with lepton.dev/"),
    (model(pod={"annotations": {"lepton.dev/x": "y"}}), "pod.annotations may not begin with lepton.dev/"),
    (
        model(pod={"annotations": {"a": "x" * 4096, "b": "x" * 4096}}),
        "pod.annotations may have ",
    ),
    (
        model(pod={"env": [{"name": f"V{i}", "value": "x" * 4096} for i in range(6)]}),
        "the values of pod.env may have ",
    ),
    (
        model(networkPolicy={"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}),
        "a peer is either an ipBlock, or podSelector and/or namespaceSelector",
    ),
    (model("x" * 49), "the name becomes the name of Services: at most 48 lower-case letters"),
    (model("1st"), "beginning with a letter"),
    (model(replicas=-1), "spec.replicas in body should be greater than or equal to 0"),
    (model(replicas=1001), "spec.replicas in body should be less than or equal to 1000"),
    (model(gpu={"count": 0}), "spec.gpu.count in body should be greater than or equal to 1"),
    (model(pod={"resources": {"limits": {"cpu": "many"}}}), "spec.pod.resources.limits.cpu"),
    (model(model=source(huggingFace={"repo": "a/b/c"})), "spec.model.source.huggingFace.repo in body should match"),
    (
        model(pod={"env": [{"name": "A"}, {"name": "A"}]}),
        'spec.pod.env[1]: Duplicate value: {"name":"A"}',
    ),
    (
        model(pod={"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}),
        'spec.pod.imagePullSecrets[1]: Duplicate value: {"name":"a"}',
    ),
    (
        model(pod={"topologySpread": [{"topologyKey": "zone"}, {"topologyKey": "zone", "maxSkew": 2}]}),
        "spec.pod.topologySpread[1]: Duplicate value",
    ),
    (model(quantization={"weights": "int3"}), 'Unsupported value: "int3": supported values: "none", '),
]

# From, to, and what the server must say.
REFUSED_AT_CHANGE: list[tuple[Object, Object, str]] = [
    (
        model(model=FETCHED, cache=GROWN),
        model(model=FETCHED, cache={**GROWN, "size": "19Gi"}),
        "cache.size may grow, but not shrink",
    ),
    (
        model(model=FETCHED, cache=GROWN),
        model(model=FETCHED, cache={**GROWN, "accessMode": "ReadWriteOnce"}),
        "cache.accessMode cannot change: create the model anew",
    ),
    (
        model(model=FETCHED, cache=GROWN),
        model(model=FETCHED, cache={**GROWN, "storageClassName": "slow"}),
        "cache.storageClassName cannot change: create the model anew",
    ),
    (
        model(model=FETCHED, cache=GROWN),
        model(model=FETCHED, cache={"size": "20Gi"}),
        "cache.storageClassName cannot change: create the model anew",
    ),
    (
        model(model=FETCHED, cache={"existingClaim": "a"}),
        model(model=FETCHED, cache={"existingClaim": "b"}),
        "cache.existingClaim cannot change: create the model anew",
    ),
    (
        model(model=FETCHED, cache={"existingClaim": "a"}),
        model(model=FETCHED, cache=GROWN),
        "cache.existingClaim cannot change: create the model anew",
    ),
    # Removing and adding again would go round a rule on the field itself.
    (
        model(model=FETCHED, cache=GROWN),
        model(model=FETCHED),
        "cache cannot be added or removed later: create the model anew",
    ),
    (
        model(model=FETCHED),
        model(model=FETCHED, cache=GROWN),
        "cache cannot be added or removed later: create the model anew",
    ),
]


@pytest.mark.parametrize(("body", "message"), REFUSED_AT_CREATION, ids=lambda value: str(value)[:60])
def test_refused_at_creation(installed: Api, body: Object, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        installed.create(body, dry_run=True)
    assert caught.value.reason == "Invalid"
    assert message in caught.value.message


@pytest.fixture
def created(installed: Api) -> Iterator[Api]:
    yield installed
    installed.delete_all("LeptonModel")


@pytest.mark.parametrize(("before", "after", "message"), REFUSED_AT_CHANGE, ids=lambda value: str(value)[:60])
def test_refused_at_change(created: Api, before: Object, after: Object, message: str) -> None:
    created.create(before)
    with pytest.raises(ApiError) as caught:
        _respec(created, after)
    assert caught.value.reason == "Invalid"
    assert message in caught.value.message


def rules_of(schema: Any) -> Iterator[str]:
    """The messages of all CEL rules."""
    if isinstance(schema, dict):
        for rule in schema.get("x-kubernetes-validations", []):
            yield rule["message"]
        for value in schema.values():
            yield from rules_of(value)


def test_every_rule_is_broken_here(schema: Object) -> None:
    said = [message for _, message in REFUSED_AT_CREATION] + [message for _, _, message in REFUSED_AT_CHANGE]
    untested = [rule for rule in set(rules_of(schema)) if not any(message in rule for message in said)]
    assert not untested


CHANGES = [
    (model(), model(model=source(http={"url": "https://example.org/a.tar"}))),
    (model(model=FETCHED, cache=GROWN), model(model=FETCHED, cache={**GROWN, "size": "0.5Ti"})),
    (model(replicas=3), model(replicas=0)),
    (model(gpu={}), model()),
]


@pytest.mark.parametrize(("before", "after"), CHANGES, ids=lambda value: json.dumps(value["spec"])[:60])
def test_allowed_changes(created: Api, before: Object, after: Object) -> None:
    created.create(before)
    assert _respec(created, after)["metadata"]["generation"] == 2


def _respec(api: Api, after: Object) -> Object:
    """Another spec in the place of the whole old one, whoever writes the status meanwhile."""
    change: Object = {"op": "replace", "path": "/spec", "value": after["spec"]}
    return api.patch("LeptonModel", after["metadata"]["name"], [change])


def test_defaults_are_filled_in(created: Api) -> None:
    spec = created.create(model(autoscaling={"maxReplicas": 3}, gpu={}))["spec"]
    assert spec["replicas"] == 1
    assert spec["gpu"] == {"resource": "nvidia.com/gpu", "count": 1}
    assert spec["drain"] == {"propagationSeconds": 40, "timeoutSeconds": 60}
    assert spec["disruption"] == {"maxUnavailable": 1}
    assert spec["rollout"] == {"maxSurge": 1, "maxUnavailable": 0, "whenFull": "Wait", "onUpgrade": "Keep"}
    assert spec["autoscaling"] == {
        "minReplicas": 1,
        "maxReplicas": 3,
        "targetStreams": 16,
        "targetKVPercent": 80,
        "stableSeconds": 60,
        "panicSeconds": 6,
        "scaleDownSeconds": 300,
    }


def test_unknown_fields_are_refused_where_asked(created: Api) -> None:
    body = {"apiVersion": "lepton.dev/v1alpha1", **model(replica=3)}
    with pytest.raises(ApiError, match=r'unknown field "spec.replica"'):
        created.call("POST", created.path("LeptonModel", "default"), body, {"fieldValidation": "Strict"})


def test_a_spec_of_the_largest_size_is_taken_and_read_back(created: Api) -> None:
    body = largest()
    created.create(body)
    found = created.get("LeptonModel", "m" * 48)
    assert found["spec"]["pod"]["affinity"]["podAffinity"] == body["spec"]["pod"]["affinity"]["podAffinity"]
    assert len(json.dumps(found)) > 400_000


def test_the_scale_subresource(created: Api) -> None:
    created.create(model("scaled"))
    scale = created.get("LeptonModel", "scaled", subresource="scale")
    assert scale["kind"] == "Scale"
    assert scale["spec"] == {"replicas": 1}
    created.patch("LeptonModel", "scaled", {"spec": {"replicas": 4}}, subresource="scale")
    assert created.get("LeptonModel", "scaled")["spec"]["replicas"] == 4
    with pytest.raises(ApiError, match="should be less than or equal to 1000"):
        created.patch("LeptonModel", "scaled", {"spec": {"replicas": 2000}}, subresource="scale")


def test_an_old_object_still_reads_after_the_schema_grew(installed: Api) -> None:
    """What an older release stored, with fewer fields and rules, can be read, labelled and scaled."""
    installed.delete_all("LeptonModel")
    old = deepcopy(crd())
    (version,) = old["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for name in ("autoscaling", "rollout", "drain", "disruption", "networkPolicy", "quantization", "startup"):
        del spec["properties"][name]
    spec["x-kubernetes-validations"] = [
        rule for rule in spec["x-kubernetes-validations"] if "autoscaling" not in rule["rule"]
    ]
    installed.apply(old)
    try:
        created = eventually(lambda: _create(installed, model("old", replicas=2)), "the old schema is served")
        assert "drain" not in created["spec"]
        install(installed)
        found = eventually(lambda: _with(installed, "old", "drain"), "the new schema is served")
        assert found["spec"]["drain"] == {"propagationSeconds": 40, "timeoutSeconds": 60}
        installed.patch("LeptonModel", "old", {"metadata": {"labels": {"a": "b"}}})
        installed.patch("LeptonModel", "old", {"spec": {"replicas": 3}}, subresource="scale")
        assert installed.get("LeptonModel", "old")["spec"]["replicas"] == 3
    finally:
        install(installed)
        installed.delete_all("LeptonModel")


def _create(api: Api, body: Object) -> Object | None:
    found = api.create(body)
    if "drain" not in found["spec"]:
        return found
    api.delete("LeptonModel", body["metadata"]["name"])  # Still the new schema.
    return None


def _with(api: Api, name: str, field: str) -> Object | None:
    found = api.get("LeptonModel", name)
    return found if field in found["spec"] else None


def undescribed(schema: Object, path: str) -> Iterator[str]:
    for name, part in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        if not part.get("description", "").strip():
            yield here
        yield from undescribed(part.get("items", part), here)


def test_every_field_is_described(schema: Object) -> None:
    assert not list(undescribed(schema["properties"]["spec"], "spec"))
    assert not list(undescribed(schema["properties"]["status"], "status"))


def test_kubectl_explains_and_lists(
    control_plane: ControlPlane, programs: dict[str, Path], created: Api, tmp_path: Path
) -> None:
    config = created.access.write(tmp_path / "kubeconfig")

    def kubectl(*words: str) -> str:
        command = control_plane.command(str(programs["kubectl"]), f"--kubeconfig={config}", *words)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    explained = eventually(lambda: kubectl("explain", "lm.spec.drain"), "the schema is published")
    assert "propagationSeconds\t<integer>" in explained
    assert "How long an ending pod goes on as before, while clients and endpoints learn." in explained
    created.create(model("listed"))
    header, line = kubectl("get", "lm").splitlines()
    assert header.split() == ["NAME", "READY", "REPLICAS", "READY-PODS", "LOAD", "REASON", "AGE"]
    assert line.startswith("listed ")
    kubectl("scale", "lm/listed", "--replicas=2")
    assert created.get("LeptonModel", "listed")["spec"]["replicas"] == 2
    assert "leptonmodel.lepton.dev/listed" in kubectl("get", "lepton", "-o", "name")
