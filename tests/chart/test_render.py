"""What each toggle changes in what the chart renders."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from charts import generate
from tests.chart.helm import CHART, Helm, HelmError, Rendered
from tests.chart.toggles import DIGEST, PEER, TOGGLES
from tests.cluster.api import Object

Check = Callable[[Rendered, Rendered], None]
CHECKS: dict[str, Check] = {}
OURS = {"app.kubernetes.io/name": "lepton-operator", "app.kubernetes.io/instance": "lepton"}


def check(toggle: str) -> Callable[[Check], Check]:
    """The check of a toggle: of what it renders, beside the defaults."""

    def keep(function: Check) -> Check:
        CHECKS[toggle] = function
        return function

    return keep


@pytest.fixture(scope="module")
def defaults(helm: Helm) -> Rendered:
    return helm.objects()


@pytest.mark.parametrize("toggle", TOGGLES)
def test_toggle(helm: Helm, defaults: Rendered, toggle: str) -> None:
    CHECKS[toggle](helm.objects(TOGGLES[toggle]), defaults)


def paths(values: Any, before: str = "") -> Iterator[str]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield f"{before}{key}"
            yield from paths(value, f"{before}{key}.")


def test_every_value_is_set_by_a_toggle() -> None:
    touched = {path for values in TOGGLES.values() for path in paths(values)}
    documented = {value.path for value in generate.values((CHART / "values.yaml").read_text())}
    assert not documented - touched
    assert set(CHECKS) == set(TOGGLES)


def pod(rendered: Rendered) -> Object:
    found: Object = rendered.one("Deployment")["spec"]["template"]
    return found


def args(rendered: Rendered) -> list[str]:
    found: list[str] = rendered.container["args"]
    return found


def added(rendered: Rendered, defaults: Rendered) -> set[str]:
    return rendered.names - defaults.names


def removed(rendered: Rendered, defaults: Rendered) -> set[str]:
    return defaults.names - rendered.names


@check("defaults")
def _(made: Rendered, _: Rendered) -> None:
    spec, container = pod(made)["spec"], made.container
    assert made.one("Deployment")["spec"]["replicas"] == 2
    assert container["image"] == "lepton/operator:0.1.0"
    assert "--server-image=lepton/server:0.1.0" in args(made)
    assert "--lease-name=lepton-operator" in args(made)
    assert made.one("Lease")["metadata"]["name"] == "lepton-operator"
    assert not [arg for arg in args(made) if arg.startswith("--namespace")]
    assert spec["securityContext"] | container["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"startupProbe", "livenessProbe", "readinessProbe", "resources"} <= set(container)
    assert [spread["topologyKey"] for spread in spec["topologySpreadConstraints"]] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    assert made.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    selector = made.one("Deployment")["spec"]["selector"]["matchLabels"]
    assert selector == OURS
    assert selector.items() <= pod(made)["metadata"]["labels"].items()
    for name, value in OURS.items():
        assert f"--operator-label={name}={value}" in args(made)
    assert not [found for found in made.all if found["apiVersion"].startswith("monitoring")]
    assert not made.of("NetworkPolicy")
    assert not made.of("ConfigMap")
    assert "Secret" not in {found["kind"] for found in made.all}


@check("image")
def _(made: Rendered, _: Rendered) -> None:
    assert made.container["image"] == "registry.example.org:5000/a/operator:1"
    assert made.container["imagePullPolicy"] == "Always"


@check("digest")
def _(made: Rendered, _: Rendered) -> None:
    assert made.container["image"] == f"lepton/operator@{DIGEST}"
    assert f"--server-image=lepton/server@{DIGEST}" in args(made)


@check("pull secrets")
def _(made: Rendered, _: Rendered) -> None:
    assert pod(made)["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert made.one("Pod")["spec"]["imagePullSecrets"] == [{"name": "registry"}]


@check("server")
def _(made: Rendered, _: Rendered) -> None:
    assert "--server-image=r/server:2-cpu" in args(made)
    assert [arg for arg in args(made) if arg.startswith("--server-arg")] == [
        "--server-arg=--log-format=json",
        "--server-arg=--x=a b",
    ]
    assert made.one("Pod")["spec"]["containers"][0]["image"] == "r/server:2-cpu"


@check("full name")
def _(made: Rendered, defaults: Rendered) -> None:
    assert {name.replace("/other", "/lepton-operator") for name in made.names} == defaults.names
    assert "--lease-name=other" in args(made)


@check("common labels")
def _(made: Rendered, _: Rendered) -> None:
    for found in [*made.all, pod(made)]:
        assert found["metadata"]["labels"]["team"] == "ml"
        assert found["metadata"]["labels"]["app.kubernetes.io/name"] != "ours goes before"


@check("no CRD")
def _(made: Rendered, defaults: Rendered) -> None:
    assert removed(made, defaults) == {
        "CustomResourceDefinition/leptonmodels.lepton.dev",
        "ClusterRole/lepton-operator-view",
        "ClusterRole/lepton-operator-edit",
    }


@check("CRD not kept")
def _(made: Rendered, defaults: Rendered) -> None:
    kept = {"helm.sh/resource-policy": "keep"}
    assert defaults.one("CustomResourceDefinition")["metadata"]["annotations"] == kept
    assert "annotations" not in made.one("CustomResourceDefinition")["metadata"]


@check("namespaces")
def _(made: Rendered, defaults: Rendered) -> None:
    assert removed(made, defaults) == {
        "ClusterRole/lepton-operator",
        "ClusterRoleBinding/lepton-operator",
        "LeptonModel/lepton-system/lepton-operator-test",
        "Pod/lepton-system/lepton-operator-test",
    }
    assert added(made, defaults) == {
        f"{kind}/{namespace}/lepton-operator" for kind in ("Role", "RoleBinding") for namespace in ("team-a", "team-b")
    } | {"LeptonModel/team-a/lepton-operator-test", "Pod/team-a/lepton-operator-test"}
    assert [arg for arg in args(made) if arg.startswith("--namespace")] == ["--namespace=team-a", "--namespace=team-b"]
    for binding in made.of("RoleBinding"):
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "lepton-operator", "namespace": "lepton-system"}
        ]
    target = "--server=lepton-operator-test.team-a.svc:50051"
    assert target in made.one("Pod")["spec"]["containers"][0]["args"]


@check("own namespace")
def _(made: Rendered, defaults: Rendered) -> None:
    assert added(made, defaults) == {f"{k}/lepton-system/lepton-operator" for k in ("Role", "RoleBinding")}
    assert "--namespace=lepton-system" in args(made)


@check("no roles")
def _(made: Rendered, _: Rendered) -> None:
    assert not [found for found in made.all if found["apiVersion"].startswith("rbac")]


@check("no aggregation")
def _(made: Rendered, defaults: Rendered) -> None:
    assert removed(made, defaults) == {"ClusterRole/lepton-operator-view", "ClusterRole/lepton-operator-edit"}


@check("account")
def _(made: Rendered, _: Rendered) -> None:
    account = made.one("ServiceAccount")
    assert account["metadata"]["name"] == pod(made)["spec"]["serviceAccountName"] == "own"
    assert account["metadata"]["annotations"] == {"a": "b"}
    assert account["automountServiceAccountToken"] is False
    assert {binding["subjects"][0]["name"] for binding in bindings(made)} == {"own"}


def bindings(made: Rendered) -> list[Object]:
    return [*made.of("RoleBinding"), *made.of("ClusterRoleBinding")]


@check("others' account")
def _(made: Rendered, _: Rendered) -> None:
    assert not made.of("ServiceAccount")
    assert pod(made)["spec"]["serviceAccountName"] == "theirs"
    assert {binding["subjects"][0]["name"] for binding in bindings(made)} == {"theirs"}


@check("default account")
def _(made: Rendered, _: Rendered) -> None:
    assert pod(made)["spec"]["serviceAccountName"] == "default"


@check("one replica")
def _(made: Rendered, _: Rendered) -> None:
    assert made.one("Deployment")["spec"]["replicas"] == 1


@check("no election")
def _(made: Rendered, defaults: Rendered) -> None:
    assert removed(made, defaults) == {
        "Lease/lepton-system/lepton-operator",
        "Role/lepton-system/lepton-operator-lease",
        "RoleBinding/lepton-system/lepton-operator-lease",
    }
    assert "--no-leader-election" in args(made)
    assert made.one("Deployment")["spec"]["strategy"] == {"type": "Recreate"}


@check("election")
def _(made: Rendered, _: Rendered) -> None:
    assert {"--lease-duration=30", "--renew-deadline=20.5", "--retry-period=1"} <= set(args(made))


@check("work")
def _(made: Rendered, _: Rendered) -> None:
    assert {"--workers=4", "--stats-interval=0.5", "--cluster-domain=cluster.local"} <= set(args(made))
    (resync,) = [arg for arg in args(made) if arg.startswith("--resync-seconds=")]
    assert float(resync.partition("=")[2]) == 1_000_000


@check("logs")
def _(made: Rendered, _: Rendered) -> None:
    assert args(made)[-3:] == ["--log-level=debug", "--log-format=text", "--log-level=warning"]


@check("environment")
def _(made: Rendered, defaults: Rendered) -> None:
    assert made.container["env"] == defaults.container["env"] + TOGGLES["environment"]["env"]


@check("resources")
def _(made: Rendered, _: Rendered) -> None:
    assert made.container["resources"]["requests"] == {"cpu": "1", "memory": "128Mi"}
    assert made.container["resources"]["limits"] == {"memory": "1Gi"}


@check("pod")
def _(made: Rendered, _: Rendered) -> None:
    values, spec, metadata = TOGGLES["pod"], pod(made)["spec"], pod(made)["metadata"]
    for name in ("priorityClassName", "nodeSelector", "tolerations", "affinity", "terminationGracePeriodSeconds"):
        assert spec[name] == values[name]
    assert metadata["labels"]["a"] == "b"
    assert metadata["labels"]["app.kubernetes.io/instance"] == "lepton"
    assert metadata["annotations"]["c"] == "d"


@check("spread")
def _(made: Rendered, _: Rendered) -> None:
    assert pod(made)["spec"]["topologySpreadConstraints"] == [
        {
            "topologyKey": "rack",
            "maxSkew": 1,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": OURS},
            "matchLabelKeys": ["pod-template-hash"],
        }
    ]


@check("no spread")
def _(made: Rendered, _: Rendered) -> None:
    assert "topologySpreadConstraints" not in pod(made)["spec"]


@check("no budget")
def _(made: Rendered, defaults: Rendered) -> None:
    assert removed(made, defaults) == {"PodDisruptionBudget/lepton-system/lepton-operator"}


@check("budget")
def _(made: Rendered, _: Rendered) -> None:
    assert made.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == "50%"


@check("network policy")
def _(made: Rendered, _: Rendered) -> None:
    spec = made.one("NetworkPolicy")["spec"]
    assert spec["podSelector"] == {"matchLabels": OURS}
    assert spec["ingress"] == [
        {"ports": [{"port": 9090, "protocol": "TCP"}], "from": [{"namespaceSelector": {}}]},
    ]
    dns, server, models = spec["egress"]
    assert [port["port"] for port in dns["ports"]] == [53, 53]
    assert [port["port"] for port in server["ports"]] == [443, 6443]
    assert [port["port"] for port in models["ports"]] == [50052]
    assert models["to"][0]["podSelector"] == {"matchLabels": {"lepton.dev/component": "server"}}


@check("network policy of peers")
def _(made: Rendered, _: Rendered) -> None:
    spec = made.one("NetworkPolicy")["spec"]
    assert spec["ingress"][0]["from"] == [PEER]
    assert spec["egress"][1]["ports"] == [{"port": 8443, "protocol": "TCP"}]
    assert spec["egress"][-1] == {"to": [PEER], "ports": [{"port": 4317, "protocol": "TCP"}]}


@check("metrics port")
def _(made: Rendered, _: Rendered) -> None:
    assert "--metrics-port=9100" in args(made)
    assert made.container["ports"][0]["containerPort"] == 9100
    assert made.one("Service")["spec"]["ports"][0]["port"] == 9100
    assert made.one("NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"] == 9100


@check("service monitor")
def _(made: Rendered, _: Rendered) -> None:
    monitor, service = made.one("ServiceMonitor"), made.one("Service")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert monitor["metadata"]["labels"]["release"] == "p"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert (endpoint["interval"], endpoint["honorLabels"]) == ("15s", True)


@check("pod monitor")
def _(made: Rendered, defaults: Rendered) -> None:
    monitor = made.one("PodMonitor")
    assert monitor["metadata"]["labels"]["release"] == "p"
    assert monitor["spec"]["namespaceSelector"] == {"any": True}
    assert monitor["spec"]["podMetricsEndpoints"] == [{"port": "metrics", "path": "/metrics", "interval": "15s"}]
    groups = [group for rule in made.one("ClusterRole", "operator")["rules"] for group in rule["apiGroups"]]
    assert "monitoring.coreos.com" not in groups
    others = [group for rule in defaults.one("ClusterRole", "operator")["rules"] for group in rule["apiGroups"]]
    assert "monitoring.coreos.com" in others


@check("pod monitor of namespaces")
def _(made: Rendered, _: Rendered) -> None:
    assert made.one("PodMonitor")["spec"]["namespaceSelector"] == {"matchNames": ["team-a"]}


@check("alerts")
def _(made: Rendered, _: Rendered) -> None:
    rule = made.one("PrometheusRule")
    rules = [found for group in rule["spec"]["groups"] for found in group["rules"]]
    assert rule["metadata"]["labels"]["release"] == "p"
    assert all(found["labels"]["team"] == "ml" and found["labels"]["severity"] for found in rules)
    assert [found["expr"].strip()[-5:] for found in rules if found["alert"] == "LeptonModelSlowFirstToken"] == ["> 2.5"]
    assert "@" not in json.dumps(rules)
    namespaces = [found["expr"] for found in rules if 'namespace="' in found["expr"]]
    assert all('namespace="lepton-system", service="lepton-operator-metrics"' in expr for expr in namespaces)


@check("dashboard")
def _(made: Rendered, _: Rendered) -> None:
    found = made.one("ConfigMap")
    labels = found["metadata"]["labels"]
    assert (labels["grafana_dashboard"], labels["grafana"]) == ("1", "b")
    assert found["metadata"]["annotations"] == {"grafana_folder": "Lepton"}
    assert json.loads(found["data"]["lepton.json"]) == json.loads(generate.DASHBOARD.read_text())


@check("test of a target")
def _(made: Rendered, _: Rendered) -> None:
    assert not made.of("LeptonModel")
    spec = made.one("Pod")["spec"]
    words = spec["containers"][0]["args"]
    assert "--server=tiny.models.svc:50051" in words
    assert "--tls" in words
    assert spec["activeDeadlineSeconds"] == 60


@check("test of a model")
def _(made: Rendered, _: Rendered) -> None:
    spec = made.one("LeptonModel")["spec"]
    assert spec["replicas"] == 2
    assert spec["model"] == {"source": {"embedded": {}}}
    assert made.one("Pod")["spec"]["containers"][0]["resources"]["limits"] == {"memory": "1Gi"}


def test_the_namespaced_example_needs_no_right_outside_of_its_namespace(helm: Helm) -> None:
    path = CHART.parents[1] / "examples" / "models" / "namespaced" / "values.yaml"
    made = helm.objects(yaml.safe_load(path.read_text()), namespace="team-a")
    assert {found["metadata"].get("namespace") for found in made.all} == {"team-a"}


@pytest.mark.parametrize("release", ["lepton", "my-operator", "r" * 53])
def test_names_are_short_enough_whatever_the_release_is_called(helm: Helm, release: str) -> None:
    made = helm.objects(release=release)
    assert all(len(found["metadata"]["name"]) <= 63 for found in made.all)
    assert made.one("Deployment")["metadata"]["name"].endswith("operator")
    assert len(made.one("LeptonModel")["metadata"]["name"]) <= 48


def test_operators_that_all_lead_are_refused(helm: Helm) -> None:
    with pytest.raises(HelmError, match="operators that all lead would fight, so replicas has to be 1"):
        helm.objects({"leaderElection": {"enabled": False}})


@pytest.mark.parametrize(
    ("value", "kind"),
    [("serviceMonitor", "ServiceMonitor"), ("podMonitor", "PodMonitor"), ("prometheusRule", "PrometheusRule")],
)
def test_a_cluster_without_the_kinds_of_the_prometheus_operator(helm: Helm, value: str, kind: str) -> None:
    with pytest.raises(HelmError) as caught:
        helm("template", "lepton", str(CHART), values={"metrics": {value: {"enabled": True}}})
    said = " ".join(str(caught.value).split())
    assert f"metrics.{value}.enabled is true, but this cluster knows no {kind} (monitoring.coreos.com/v1)" in said
    assert f"set metrics.{value}.enabled=false" in said


@pytest.mark.parametrize("toggle", TOGGLES)
def test_lint_finds_nothing(helm: Helm, toggle: str) -> None:
    said = helm("lint", "--strict", str(CHART), values=TOGGLES[toggle])
    assert "[WARNING]" not in said
    assert "0 chart(s) failed" in said
