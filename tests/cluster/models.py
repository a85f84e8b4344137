"""LeptonModels in tests: making them, reading their status, and what the operator made of them."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tests.cluster.api import Api, ApiError, Object, eventually

OWNED = (
    "Deployment",
    "Service",
    "ServiceAccount",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "Job",
)
# Other controllers' notes, and the hash of a manifest, in which the namespace and the owner's uid are.
NOT_OURS = ("deployment.kubernetes.io/", "lepton.dev/applied")


def model(name: str = "m", **spec: Any) -> Object:
    """A LeptonModel; what is given replaces what a least spec has."""
    base: Object = {"model": {"source": {"embedded": {}}}}
    return {"kind": "LeptonModel", "metadata": {"name": name}, "spec": {**base, **spec}}


def condition(found: Object | None, kind: str) -> Object:
    """A condition of a model; one of status "none" where it has none of that type."""
    conditions = (found or {}).get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind), {"type": kind, "status": "none", "reason": ""})


def is_ready(found: Object) -> bool:
    """Whether a model is Ready at its generation."""
    status = found.get("status", {})
    ready = condition(found, "Ready")
    generation = found["metadata"]["generation"]
    observed = (ready.get("observedGeneration"), status.get("observedGeneration"))
    return bool(ready["status"] == "True" and observed == (generation, generation))


def wait_ready(api: Api, namespace: str = "default", names: Iterable[str] | None = None, seconds: float = 60) -> None:
    """Wait until these models (None: all) are Ready at their generation. Raises: AssertionError with who is not."""
    wanted = None if names is None else set(names)
    waiting: list[str] = []

    def ready() -> bool:
        found = {m["metadata"]["name"]: m for m in api.list("LeptonModel", namespace)}
        waiting[:] = [
            f"{name}: {json.dumps(found.get(name, {}).get('status', {}).get('conditions', 'no status'))[:600]}"
            for name in (found if wanted is None else wanted)
            if name not in found or not is_ready(found[name])
        ]
        return not waiting

    try:
        eventually(ready, "models ready", seconds)
    except AssertionError as error:
        raise AssertionError(f"{len(waiting)} models not ready within {seconds:g} s, such as {waiting[:3]}") from error


def wait_condition(
    api: Api, name: str, kind: str, status: str, reason: str = "", namespace: str = "default", seconds: float = 60
) -> Object:
    """Wait until a condition is so at the model's generation, and return it.

    Raises:
        AssertionError: it is not within that time; the text has all conditions.
    """

    def found() -> Object | None:
        now = api.get("LeptonModel", name, namespace)
        last[0] = now.get("status", {}).get("conditions")
        is_ = condition(now, kind)
        right = is_["status"] == status and (not reason or is_["reason"] == reason)
        return is_ if right and is_.get("observedGeneration") == now["metadata"]["generation"] else None

    last: list[Any] = [None]
    try:
        result: Object = eventually(found, f"{name}: {kind}={status} {reason}", seconds)
    except AssertionError as error:
        raise AssertionError(f"{name} has no {kind}={status} {reason} within {seconds:g} s, but {last[0]}") from error
    return result


def owned(api: Api, namespace: str, kinds: Sequence[str] = OWNED) -> list[Object]:
    """Everything in a namespace that a LeptonModel owns."""
    found: list[Object] = []
    for kind in kinds:
        try:
            items = api.list(kind, namespace)
        except ApiError as error:
            if error.status != 404:  # Its API may not be installed.
                raise
            continue
        for item in items:
            owners = item["metadata"].get("ownerReferences", [])
            if any(owner["kind"] == "LeptonModel" for owner in owners):
                found.append({"kind": kind, **item})
    return found


def collected(api: Api, namespace: str) -> bool:
    """Whether the cluster's garbage collector has removed what models owned that are no more."""
    alive = {item["metadata"]["uid"] for item in api.list("LeptonModel", namespace)}
    owners = [owner for item in owned(api, namespace) for owner in item["metadata"]["ownerReferences"]]
    return all(owner["uid"] in alive for owner in owners if owner["kind"] == "LeptonModel")


def normal(api: Api, namespace: str) -> dict[str, Object]:
    """The state that does not depend on how it came about: owned specs, labels, owners; conditions of the models.

    What the cluster itself assigns (addresses, ids, times) and other controllers' annotations are left out.
    """
    state: dict[str, Object] = {}
    for item in owned(api, namespace):
        metadata = item["metadata"]
        annotations = {k: v for k, v in metadata.get("annotations", {}).items() if not k.startswith(NOT_OURS)}
        spec = {k: v for k, v in item.get("spec", {}).items() if k not in ("clusterIP", "clusterIPs", "volumeName")}
        if item["kind"] == "Job":  # Its selector and labels hold its uid.
            spec = {"template": spec["template"]["spec"]}
        state[f"{item['kind']}/{metadata['name']}"] = {
            "labels": metadata.get("labels", {}),
            "annotations": annotations,
            "owners": [(o["kind"], o["name"], o.get("controller")) for o in metadata["ownerReferences"]],
            "spec": spec,
        }
    for item in api.list("LeptonModel", namespace):
        status = item.get("status", {})
        state[f"LeptonModel/{item['metadata']['name']}"] = {
            "conditions": [(c["type"], c["status"], c["reason"]) for c in status.get("conditions", [])],
            "settled": status.get("observedGeneration") == item["metadata"]["generation"],
            "replicas": [status.get(name) for name in ("replicas", "readyReplicas", "updatedReplicas")],
            "endpoint": str(status.get("endpoint", "")).replace(f".{namespace}.", ".NAMESPACE."),
        }
    text = json.dumps(state, sort_keys=True)
    found: dict[str, Object] = json.loads(text)
    return found


def differences(left: dict[str, Object], right: dict[str, Object]) -> list[str]:
    """What differs between two normal states, one line each."""
    lines = [f"only left: {name}" for name in left.keys() - right.keys()]
    lines += [f"only right: {name}" for name in right.keys() - left.keys()]
    for name in left.keys() & right.keys():
        for part in left[name]:
            if left[name][part] != right[name].get(part):
                lines.append(f"{name} {part}: {json.dumps(left[name][part])} != {json.dumps(right[name].get(part))}")
    return lines


def largest() -> Object:
    """A model with every list, map and string about as long as the schema lets it be."""
    requirement = {"key": "k" * 63, "operator": "In", "values": ["v" * 63] * 16}
    selector = {
        "matchLabels": {f"{i:02}" + "k" * 61: "v" * 63 for i in range(16)},
        "matchExpressions": [requirement] * 8,
    }
    term = {"topologyKey": "zone", "labelSelector": selector, "namespaces": ["n" * 63] * 16}
    weighted = [{"weight": 1, "podAffinityTerm": term}] * 8
    pods = {
        "requiredDuringSchedulingIgnoredDuringExecution": [term] * 8,
        "preferredDuringSchedulingIgnoredDuringExecution": weighted,
    }
    node = {"matchExpressions": [requirement] * 8}
    nodes = {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [node] * 8},
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": node}] * 8,
    }
    return model(
        "m" * 48,
        server={"args": ["--x=" + "y" * 183] * 32, "image": "i" * 512},
        pod={
            "env": [{"name": f"V{i:02}", "value": "x" * 512} for i in range(32)],
            "annotations": {f"a{i:02}": "x" * 375 for i in range(16)},
            "labels": {f"l{i:02}": "v" * 63 for i in range(16)},
            "tolerations": [{"key": "k" * 63, "value": "v" * 63}] * 16,
            "affinity": {"nodeAffinity": nodes, "podAffinity": pods, "podAntiAffinity": pods},
            "topologySpread": [{"topologyKey": f"zone{i}"} for i in range(4)],
            "imagePullSecrets": [{"name": f"{i}" + "s" * 252} for i in range(8)],
        },
        networkPolicy={
            "from": [{"podSelector": selector, "namespaceSelector": selector}] * 16,
            "metricsFrom": [{"podSelector": selector}] * 8,
        },
    )
