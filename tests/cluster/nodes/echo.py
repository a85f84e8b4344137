"""Pods of the program `echo`, for tests of the nodes."""

from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from tests.cluster.api import Api, Object, eventually
from tests.cluster.nodes import image

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_OPENER = build_opener(ProxyHandler({}))


def spec(node: str | None = None, gpus: int = 0) -> Object:
    """A pod's spec; on a given node, with that many GPUs."""
    container = {
        "name": "echo",
        "image": image.name("echo"),
        "imagePullPolicy": "Never",
        "securityContext": RESTRICTED,
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)} if gpus else {}},
    }
    where = {"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}
    return {"containers": [container], "terminationGracePeriodSeconds": 5, **where}


def pod(name: str, node: str | None = None, gpus: int = 0) -> Object:
    """A pod."""
    return {"kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec(node, gpus)}


def deployment(name: str, replicas: int) -> Object:
    """A Deployment, spread over the nodes."""
    labels = {"app": name}
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
        "matchLabelKeys": ["pod-template-hash"],
    }
    template = {"metadata": {"labels": labels}, "spec": {**spec(), "topologySpreadConstraints": [spread]}}
    return {
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def service(name: str, headless: bool = False) -> Object:
    """A Service of the pods of that name."""
    spec: Object = {"selector": {"app": name}, "ports": [{"port": 8080}]}
    if headless:
        spec["clusterIP"] = "None"
    return {"kind": "Service", "metadata": {"name": f"{name}-headless" if headless else name}, "spec": spec}


def ready(found: Object | None) -> bool:
    """Whether a pod is Ready."""
    conditions = (found or {}).get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def wait_ready(api: Api, name: str, namespace: str) -> Object:
    """The pod, when it is Ready."""
    eventually(lambda: ready(api.find("Pod", name, namespace)), f"pod {name} is Ready", 60)
    return api.get("Pod", name, namespace)


def fetch(url: str) -> str:
    """What answers at a URL; empty while nothing does."""
    try:
        with _OPENER.open(url, timeout=6) as answer:
            return str(answer.read(), "utf-8")
    except (URLError, OSError):
        return ""


def answers(url: str, text: str) -> bool:
    """Whether that answers at a URL."""
    return fetch(url) == text


def resident(pid: int) -> bool:
    """Whether a process is there."""
    return Path(f"/proc/{pid}").exists()
