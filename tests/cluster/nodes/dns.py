"""CoreDNS as the cluster's DNS: a pod on each node, behind the service address that every pod is told."""

from tests.cluster.api import Object
from tests.cluster.nodes import image

ADDRESS = "10.96.0.10"
DOMAIN = "cluster.local"
# What kubeadm sets, but nothing is forwarded: there is nothing outside.
COREFILE = f""".:53 {{
    errors
    health {{
        lameduck 3s
    }}
    ready
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        pods insecure
        ttl 30
    }}
    loadbalance
}}
"""
_LABELS = {"k8s-app": "kube-dns"}
_WHERE = {"name": "coredns", "namespace": "kube-system"}


def manifests(replicas: int) -> list[Object]:
    """All of its objects."""
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"}
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    return [
        {"kind": "ServiceAccount", "metadata": _WHERE},
        {"kind": "ClusterRole", "metadata": {"name": "system:coredns"}, "rules": rules},
        {
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", **_WHERE}],
        },
        {"kind": "ConfigMap", "metadata": _WHERE, "data": {"Corefile": COREFILE}},
        {
            "kind": "Deployment",
            "metadata": _WHERE,
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": _LABELS},
                "template": {"metadata": {"labels": _LABELS}, "spec": _pod()},
            },
        },
        {
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"clusterIP": ADDRESS, "selector": _LABELS, "ports": ports},
        },
    ]


def _pod() -> Object:
    container = {
        "name": "coredns",
        "image": image.name("coredns"),
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "securityContext": {
            "runAsUser": 0,  # With one capability left: port 53 is for those who may have it.
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
        },
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
    }
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": _LABELS},
    }
    return {
        "serviceAccountName": "coredns",
        "dnsPolicy": "Default",
        "priorityClassName": "system-cluster-critical",
        "topologySpreadConstraints": [spread],
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
