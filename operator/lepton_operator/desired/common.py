"""What all manifests of a model share."""

from typing import Any

from lepton_operator import names
from lepton_operator.api import API_VERSION, KIND
from lepton_operator.observed import Manifest, Model

INFERENCE_PORT = 50051
CONTROL_PORT = 50052
METRICS_PORT = 9090
USER = 65532
"""User and group of the pods: no privileges, no name needed."""


def manifest(model: Model, api_version: str, kind: str, name: str, component: str = names.SERVER) -> Manifest:
    """The head of a manifest: identity, labels, the owner."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": model.metadata.namespace,
            "labels": names.labels(model.metadata.name, component),
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "name": model.metadata.name,
                    "uid": model.metadata.uid,
                    "controller": True,
                }
            ],
        },
    }


def restricted_container() -> dict[str, Any]:
    """Security context of a container under Pod Security "restricted"."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }


def restricted_pod() -> dict[str, Any]:
    """Security context of a pod under Pod Security "restricted"; volumes belong to its group."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def scheduling(model: Model) -> dict[str, Any]:
    """Where pods may run and as whom images are pulled: members of a pod's spec."""
    from msgspec import to_builtins

    pod = model.spec.pod
    found: dict[str, Any] = {}
    if pod.node_selector:
        found["nodeSelector"] = dict(pod.node_selector)
    if pod.tolerations:
        found["tolerations"] = to_builtins(pod.tolerations)
    if pod.affinity is not None:
        found["affinity"] = to_builtins(pod.affinity)
    if pod.priority_class_name:
        found["priorityClassName"] = pod.priority_class_name
    if pod.runtime_class_name:
        found["runtimeClassName"] = pod.runtime_class_name
    if pod.image_pull_secrets:
        found["imagePullSecrets"] = [{"name": secret.name} for secret in pod.image_pull_secrets]
    return found


def service_account(model: Model) -> str:
    """Name of the pods' ServiceAccount."""
    return model.spec.pod.service_account_name or model.metadata.name


def quantity(value: int | str) -> str:
    """A quantity as text."""
    return str(value)
