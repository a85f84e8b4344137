"""What rights an account has, and which of them it has used: rules of RBAC against the API server's audit log."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.api import Api, Object


@dataclass(frozen=True, order=True)
class Right:
    """A verb on a resource; `resource` has its subresource, as leptonmodels/status."""

    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        """As `get deployments.apps`."""
        return f"{self.verb} {self.resource}{'.' if self.group else ''}{self.group}"


@dataclass(frozen=True)
class Use:
    """Rights that an account has asked for: `used` that it had, `forbidden` that it had not."""

    used: frozenset[Right]
    forbidden: frozenset[Right]


def granted(rules: Iterable[Object]) -> frozenset[Right]:
    """What rules of a Role or a ClusterRole grant."""
    return frozenset(
        Right(group, resource, verb)
        for rule in rules
        for group in rule.get("apiGroups", [])
        for resource in rule.get("resources", [])
        for verb in rule["verbs"]
    )


def rules_of(api: Api, account: str, namespace: str) -> list[Object]:
    """Rules of all Roles and ClusterRoles that are bound to a ServiceAccount."""
    found: list[Object] = []
    bindings: list[Object] = [*api.list("ClusterRoleBinding"), *api.list("RoleBinding", None)]
    for binding in bindings:
        subjects = binding.get("subjects") or []
        if not any(
            s["kind"] == "ServiceAccount" and (s["name"], s["namespace"]) == (account, namespace) for s in subjects
        ):
            continue
        reference, home = binding["roleRef"], binding["metadata"].get("namespace", "default")
        found += api.get(reference["kind"], reference["name"], home).get("rules") or []
    return found


def use(log: Path, users: Sequence[str]) -> Use:
    """What these users have asked for, as far as the audit log tells.

    Reads have to be in it: `AUDIT_POLICY` of a cluster that is to be audited says so.
    """
    used: set[Right] = set()
    forbidden: set[Right] = set()
    for event in _events(log):
        about = event.get("objectRef")
        if event["user"]["username"] not in users or about is None:
            continue
        resource = about.get("resource", "")
        if "subresource" in about:
            resource += f"/{about['subresource']}"
        right = Right(about.get("apiGroup", ""), resource, event["verb"])
        denied = event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
        (forbidden if denied else used).add(right)
        if event["verb"] == "patch" and (event.get("responseStatus") or {}).get("code") == 201:
            used.add(Right(right.group, right.resource, "create"))  # An apply of what was not there needs both.
    return Use(frozenset(used), frozenset(forbidden))


def _events(log: Path) -> Iterator[dict[str, Any]]:
    with open(log, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):  # The last one may be being written.
                yield json.loads(line)
