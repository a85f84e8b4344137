"""The API of PodMonitors, as the Prometheus operator installs it but for its schema."""

from typing import Any

from tests.cluster.api import Api, Object, eventually

MONITORS = "podmonitors.monitoring.coreos.com"


def install(api: Api) -> None:
    """Install it, and wait until it is served."""
    schema: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    names = {"plural": "podmonitors", "singular": "podmonitor", "kind": "PodMonitor", "listKind": "PodMonitorList"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    body: Object = {
        "kind": "CustomResourceDefinition",
        "metadata": {"name": MONITORS},
        "spec": {"group": "monitoring.coreos.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }
    api.apply(body)
    eventually(lambda: served(api), "PodMonitors are served")


def served(api: Api) -> bool:
    """Whether the API server knows PodMonitors now."""
    found = api.find("CustomResourceDefinition", MONITORS) or {}
    conditions = found.get("status", {}).get("conditions") or []  # null at first
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
