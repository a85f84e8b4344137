"""The chart's roles beside the rules that the operator says it needs."""

from typing import Any

import pytest

from lepton_operator.rbac import rules
from tests.chart.helm import Helm, Rendered
from tests.cluster.api import Object

LEASES = ("coordination.k8s.io", "leases")
Rights = set[tuple[str, str, str]]


def rights(found: list[Object]) -> Rights:
    return {
        (group, resource, verb)
        for rule in found
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def all_rules(made: Rendered) -> list[Object]:
    return [rule for kind in ("Role", "ClusterRole") for role in made.of(kind) for rule in role["rules"]]


def without_leases(found: Rights) -> Rights:
    return {right for right in found if right[:2] != LEASES}


@pytest.mark.parametrize("namespaces", [[], ["team-a", "lepton-system"]], ids=["cluster", "namespaces"])
def test_the_operator_gets_what_it_says_it_needs(helm: Helm, namespaces: list[str]) -> None:
    made = helm.objects({"watchNamespaces": namespaces})
    needed = without_leases(rights(rules(namespaced=bool(namespaces))))
    roles = {
        role["metadata"].get("namespace", "all"): rights(role["rules"])
        for role in [*made.of("Role"), *made.of("ClusterRole")]
        if role["metadata"]["name"] == "lepton-operator"
    }
    assert roles == dict.fromkeys(namespaces or ["all"], needed)


@pytest.mark.parametrize("namespaces", [[], ["team-a"]], ids=["cluster", "namespaces"])
def test_of_leases_it_gets_its_own(helm: Helm, namespaces: list[str]) -> None:
    made = helm.objects({"watchNamespaces": namespaces})
    (rule,) = [rule for rule in all_rules(made) if "leases" in rule["resources"]]
    lease = made.one("Lease")["metadata"]
    assert rule == {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": [lease["name"]],
        "verbs": ["get", "update"],
    }
    assert made.one("Role", "-lease")["metadata"]["namespace"] == lease["namespace"] == "lepton-system"


def test_no_namespaced_release_has_anything_cluster_wide_but_the_crd_and_its_roles(helm: Helm) -> None:
    made = helm.objects({"watchNamespaces": ["team-a"], "crds": {"install": False}})
    assert all("namespace" in found["metadata"] for found in made.all)


@pytest.mark.parametrize(
    "values", [{}, {"watchNamespaces": ["team-a"]}, {"metrics": {"podMonitor": {"enabled": True}}}]
)
def test_no_secrets_and_no_wildcards(helm: Helm, values: dict[str, Any]) -> None:
    for group, resource, verb in rights(all_rules(helm.objects(values))):
        assert "*" not in (group, resource, verb)
        assert resource != "secrets"
        assert verb not in ("escalate", "bind", "impersonate")


def test_models_are_a_part_of_view_and_edit(helm: Helm) -> None:
    made = helm.objects()
    view, edit = made.one("ClusterRole", "-view"), made.one("ClusterRole", "-edit")
    labels = "rbac.authorization.k8s.io/aggregate-to-"
    assert [key for key in view["metadata"]["labels"] if key.startswith(labels)] == [f"{labels}view"]
    assert {key for key in edit["metadata"]["labels"] if key.startswith(labels)} == {f"{labels}edit", f"{labels}admin"}
    assert {verb for _, _, verb in rights(view["rules"])} == {"get", "list", "watch"}
    assert ("lepton.dev", "leptonmodels/status", "patch") not in rights(edit["rules"])
    assert ("lepton.dev", "leptonmodels/scale", "patch") in rights(edit["rules"])
