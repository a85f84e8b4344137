"""Flows through the NetworkPolicy, judged by an evaluator of the API's definition."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from lepton_operator.desired import Choices, desired
from lepton_operator.settings import PodSettings

Make = Callable[..., Any]


@dataclass(frozen=True)
class Peer:
    """Who opens a connection."""

    namespace: str = "ns"
    labels: dict[str, str] = field(default_factory=dict)
    namespace_labels: dict[str, str] = field(default_factory=dict)
    address: str = "10.1.1.1"


OPERATOR = Peer("lepton-system", {"app.kubernetes.io/name": "lepton-operator"})
NEIGHBOUR = Peer("ns", {"app": "web"})
STRANGER = Peer("other", {"app": "web"}, {"team": "blue"})
PROMETHEUS = Peer("monitoring", {"app": "prometheus"})


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions", []):
        there, values = rule["key"] in labels, rule.get("values", [])
        good = {
            "In": there and labels.get(rule["key"]) in values,
            "NotIn": labels.get(rule["key"]) not in values,
            "Exists": there,
            "DoesNotExist": not there,
        }[rule["operator"]]
        if not good:
            return False
    return True


def allowed(policy: dict[str, Any], peer: Peer, port: int) -> bool:
    """Whether the policy, which selects the pod, lets the peer in."""
    return any(
        any(p["port"] == port for p in rule["ports"]) and any(matches(policy, given, peer) for given in rule["from"])
        for rule in policy["spec"]["ingress"]
    )


def matches(policy: dict[str, Any], given: dict[str, Any], peer: Peer) -> bool:
    if "ipBlock" in given:
        address = ipaddress.ip_address(peer.address)
        block = given["ipBlock"]
        inside = address in ipaddress.ip_network(block["cidr"])
        return inside and not any(address in ipaddress.ip_network(e) for e in block.get("except", []))
    if "namespaceSelector" in given:
        labels = {"kubernetes.io/metadata.name": peer.namespace, **peer.namespace_labels}
        if not selects(given["namespaceSelector"], labels):
            return False
    elif peer.namespace != policy["metadata"]["namespace"]:
        return False
    return selects(given.get("podSelector", {}), peer.labels)


@pytest.fixture
def policy(model: Make, settings: PodSettings) -> Make:
    def make(**network: Any) -> dict[str, Any]:
        made = model(networkPolicy={"enabled": True, **network})
        [found] = [m for m in desired(made, settings, Choices(replicas=1)) if m["kind"] == "NetworkPolicy"]
        return found

    return make


def test_none_unless_it_is_enabled(model: Make, settings: PodSettings) -> None:
    assert not [m for m in desired(model(), settings, Choices(replicas=1)) if m["kind"] == "NetworkPolicy"]


def test_by_default_the_namespace_may_infer(policy: Make) -> None:
    found = policy()
    assert allowed(found, NEIGHBOUR, 50051)
    assert not allowed(found, STRANGER, 50051)


def test_the_control_port_is_for_the_operator_only(policy: Make) -> None:
    found = policy()
    assert allowed(found, OPERATOR, 50052)
    assert allowed(found, OPERATOR, 9090)
    for peer in (NEIGHBOUR, STRANGER, PROMETHEUS, Peer("lepton-system", {"app": "web"})):
        assert not allowed(found, peer, 50052)
    assert not allowed(found, Peer("ns", {"app.kubernetes.io/name": "lepton-operator"}), 50052)


def test_metrics_are_for_those_that_are_named(policy: Make) -> None:
    given = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
        "podSelector": {"matchLabels": {"app": "prometheus"}},
    }
    found = policy(metricsFrom=[given])
    assert allowed(found, PROMETHEUS, 9090)
    assert not allowed(found, PROMETHEUS, 50051)
    assert not allowed(found, STRANGER, 9090)


def test_from_replaces_the_default(policy: Make) -> None:
    blue = {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["blue"]}]}}
    block = {"ipBlock": {"cidr": "192.168.0.0/16", "except": ["192.168.9.0/24"]}}
    found = policy(**{"from": [blue, block]})
    assert allowed(found, STRANGER, 50051)
    assert not allowed(found, NEIGHBOUR, 50051)
    assert allowed(found, Peer("x", address="192.168.1.1"), 50051)
    assert not allowed(found, Peer("x", address="192.168.9.1"), 50051)
    assert not allowed(found, STRANGER, 50052)
