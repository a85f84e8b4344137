"""Every toggle of the chart's values, and values that set all of them in some way."""

from typing import Any

PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
DIGEST = "sha256:" + "0123456789abcdef" * 4

TOGGLES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "image": {"image": {"repository": "registry.example.org:5000/a/operator", "tag": "1", "pullPolicy": "Always"}},
    "digest": {"image": {"tag": "1", "digest": DIGEST}, "server": {"image": {"digest": DIGEST}}},
    "pull secrets": {"imagePullSecrets": [{"name": "registry"}]},
    "server": {
        "server": {"image": {"repository": "r/server", "tag": "2-cpu"}, "args": ["--log-format=json", "--x=a b"]}
    },
    "full name": {"fullnameOverride": "other"},
    "common labels": {"commonLabels": {"team": "ml", "app.kubernetes.io/name": "ours goes before"}},
    "no CRD": {"crds": {"install": False}},
    "CRD not kept": {"crds": {"keep": False}},
    "namespaces": {"watchNamespaces": ["team-a", "team-b"]},
    "own namespace": {"watchNamespaces": ["lepton-system"]},
    "no roles": {"rbac": {"create": False}},
    "no aggregation": {"rbac": {"aggregate": False}},
    "account": {"serviceAccount": {"name": "own", "annotations": {"a": "b"}}},
    "others' account": {"serviceAccount": {"create": False, "name": "theirs"}},
    "default account": {"serviceAccount": {"create": False}},
    "one replica": {"replicas": 1},
    "no election": {"replicas": 1, "leaderElection": {"enabled": False}},
    "election": {
        "leaderElection": {"leaseDurationSeconds": 30, "renewDeadlineSeconds": 20.5, "retryPeriodSeconds": 1},
    },
    "work": {"workers": 4, "resyncSeconds": 1000000, "statsIntervalSeconds": 0.5, "clusterDomain": "cluster.local"},
    "logs": {"logLevel": "debug", "logFormat": "text", "extraArgs": ["--log-level=warning"]},
    "environment": {
        "env": [
            {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4317"},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ]
    },
    "resources": {"resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}},
    "pod": {
        "priorityClassName": "system-cluster-critical",
        "podLabels": {"a": "b", "app.kubernetes.io/instance": "ours goes before"},
        "podAnnotations": {"c": "d"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "control-plane", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}
                ]
            }
        },
        "terminationGracePeriodSeconds": 60,
    },
    "spread": {"topologySpreadConstraints": [{"topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]},
    "no spread": {"topologySpreadConstraints": []},
    "no budget": {"podDisruptionBudget": {"enabled": False}},
    "budget": {"podDisruptionBudget": {"maxUnavailable": "50%"}},
    "network policy": {"networkPolicy": {"enabled": True}},
    "network policy of peers": {
        "networkPolicy": {
            "enabled": True,
            "metricsFrom": [PEER],
            "apiServerPorts": [8443],
            "extraEgress": [{"to": [PEER], "ports": [{"port": 4317, "protocol": "TCP"}]}],
        }
    },
    "metrics port": {"metrics": {"port": 9100}, "networkPolicy": {"enabled": True}},
    "service monitor": {
        "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "p"}, "interval": "15s"}}
    },
    "pod monitor": {"metrics": {"podMonitor": {"enabled": True, "labels": {"release": "p"}, "interval": "15s"}}},
    "pod monitor of namespaces": {"watchNamespaces": ["team-a"], "metrics": {"podMonitor": {"enabled": True}}},
    "alerts": {
        "metrics": {
            "prometheusRule": {
                "enabled": True,
                "labels": {"release": "p"},
                "alertLabels": {"team": "ml"},
                "firstTokenSeconds": 2.5,
            }
        }
    },
    "dashboard": {
        "metrics": {
            "dashboard": {"enabled": True, "labels": {"grafana": "b"}, "annotations": {"grafana_folder": "Lepton"}}
        }
    },
    "test of a target": {"test": {"target": "tiny.models.svc:50051", "args": ["--tls"], "timeoutSeconds": 60}},
    "test of a model": {"test": {"modelSpec": {"replicas": 2}, "resources": {"limits": {"memory": "1Gi"}}}},
}
