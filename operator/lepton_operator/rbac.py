"""The rights that the operator needs: what a ClusterRole, or by namespaces a Role, has to say."""

from typing import Any

from lepton_operator.api import GROUP, PLURAL

_READ = ["get", "list", "watch"]
_OWN = [*_READ, "create", "patch", "delete"]


def rules(namespaced: bool = False) -> list[dict[str, Any]]:
    """The rules. Secrets are not among them, nor is any wildcard.

    Args:
        namespaced: as a Role's: the operator then asks for nothing outside of its namespaces. Both are the same, since
            all that it reads and writes lies in namespaces.
    """
    del namespaced
    return [
        _rule(GROUP, [PLURAL], _READ),
        _rule(GROUP, [f"{PLURAL}/status"], ["patch"]),
        _rule("apps", ["deployments"], _OWN),
        _rule("", ["services", "serviceaccounts", "persistentvolumeclaims"], _OWN),
        _rule("policy", ["poddisruptionbudgets"], _OWN),
        _rule("networking.k8s.io", ["networkpolicies"], _OWN),
        _rule("batch", ["jobs"], _OWN),
        _rule("monitoring.coreos.com", ["podmonitors"], _OWN),
        _rule("", ["pods"], ["list", "watch", "patch"]),
        _rule("", ["events"], ["list", "watch"]),
        _rule("events.k8s.io", ["events"], ["create"]),
        _rule("coordination.k8s.io", ["leases"], ["get", "create", "update"]),
    ]


def _rule(group: str, resources: list[str], verbs: list[str]) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}
