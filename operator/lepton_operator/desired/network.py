"""Services and the NetworkPolicy."""

from typing import Any

import msgspec

from lepton_operator import names
from lepton_operator.desired.common import CONTROL_PORT, INFERENCE_PORT, METRICS_PORT, manifest
from lepton_operator.observed import Manifest, Model
from lepton_operator.settings import PodSettings


def services(model: Model) -> list[Manifest]:
    """The ClusterIP Service for kubectl and grpcurl, and the headless one for clients that balance themselves."""
    return [_service(model, model.metadata.name, {}), _service(model, names.headless(model.metadata.name), _HEADLESS)]


_HEADLESS = {"clusterIP": "None"}


def _service(model: Model, name: str, more: dict[str, Any]) -> Manifest:
    made = manifest(model, "v1", "Service", name)
    made["spec"] = {
        "type": "ClusterIP",
        "selector": names.pod_selector(model.metadata.name),
        "ports": [
            {
                "name": "grpc",
                "port": INFERENCE_PORT,
                "targetPort": "grpc",
                "protocol": "TCP",
                "appProtocol": "kubernetes.io/h2c" if model.spec.server.tls is None else "https",
            }
        ],
        **more,
    }
    return made


def endpoint(model: Model, settings: PodSettings) -> str:
    """The target for clients that balance round robin."""
    domain = f".{settings.cluster_domain}" if settings.cluster_domain else ""
    host = f"{names.headless(model.metadata.name)}.{model.metadata.namespace}.svc{domain}"
    return f"dns:///{host}:{INFERENCE_PORT}"


def network_policy(model: Model, settings: PodSettings) -> Manifest:
    """Who may open connections to the pods: inference from `from`, the rest from the operator and from metrics."""
    policy = model.spec.network_policy
    callers = [msgspec.to_builtins(peer) for peer in policy.from_] or [{"podSelector": {}}]
    metrics = [msgspec.to_builtins(peer) for peer in policy.metrics_from]
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.operator_namespace}},
        "podSelector": {"matchLabels": dict(settings.operator_labels)},
    }
    made = manifest(model, "networking.k8s.io/v1", "NetworkPolicy", model.metadata.name)
    made["spec"] = {
        "podSelector": {"matchLabels": names.pod_selector(model.metadata.name)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"ports": [_port(INFERENCE_PORT)], "from": callers},
            {"ports": [_port(CONTROL_PORT), _port(METRICS_PORT)], "from": [operator, *metrics]},
        ],
    }
    return made


def _port(number: int) -> dict[str, Any]:
    return {"port": number, "protocol": "TCP"}
