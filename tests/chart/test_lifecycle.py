"""Releases on a real API server: installed, twice, beside each other, upgraded, uninstalled."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chart import prometheus_kinds
from tests.chart.conftest import CRD, namespace, refusal
from tests.chart.everything import everything
from tests.chart.helm import CHART, EARLIER, Helm
from tests.cluster.api import Api, ApiError, Object, eventually
from tests.cluster.models import model

KEPT = {f"CustomResourceDefinition/{CRD}"}
EVERY_VERB = ["get", "list", "watch", "create", "update", "patch", "delete"]
Values = dict[str, object]


def install(helm: Helm, home: str, values: Values | None = None, release: str = "lepton", chart: Path = CHART) -> str:
    """Install the chart; what Helm says. Raises: HelmError."""
    return helm("install", release, str(chart), "--namespace", home, values=values or {})


def uninstall(helm: Helm, home: str, release: str = "lepton") -> str:
    return helm("uninstall", release, "--namespace", home, "--wait")


def operators(api: Api, home: str) -> list[str]:
    return [found["metadata"]["name"] for found in api.list("Deployment", home)]


def servable(api: Api) -> None:
    eventually(lambda: prometheus_kinds.served(api, "LeptonModel"), "LeptonModels are served")


def nothing_but(api: Api, allowed: set[str]) -> None:
    """Wait until the cluster has no other objects than these. Raises: AssertionError with those that it has."""
    try:
        eventually(lambda: not everything(api) - allowed, "nothing else is left", 20)
    except AssertionError:
        left = everything(api) - allowed
        assert not left
        raise


def serving(api: Api, home: str, name: str) -> Object:
    """A model, and a Deployment and a Service of it, as the operator makes them."""
    servable(api)
    made = api.create(model(name), home)
    owner = {"apiVersion": "lepton.dev/v1alpha1", "kind": "LeptonModel", "controller": True, "name": name}
    metadata = {"name": name, "ownerReferences": [{**owner, "uid": made["metadata"]["uid"]}]}
    labels = {"app": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "server", "image": "lepton/server"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": pod}
    api.create({"kind": "Deployment", "metadata": metadata, "spec": spec}, home)
    api.create({"kind": "Service", "metadata": metadata, "spec": {"clusterIP": "None", "selector": labels}}, home)
    return made


def test_an_install_and_what_it_says_next(releases: Helm, api: Api, home: str) -> None:
    said = releases("install", "lepton", str(CHART), "--namespace", home, "--wait", values={})
    assert f"kubectl --namespace {home} rollout status deployment/lepton-operator" in said
    assert f"helm test lepton --namespace {home}" in said
    found = api.get("Deployment", "lepton-operator", home)
    assert found["status"]["readyReplicas"] == 2
    assert api.get("Lease", "lepton-operator", home)


def test_a_second_install(releases: Helm, api: Api, home: str) -> None:
    install(releases, home)
    said = refusal(releases, "install", "lepton", str(CHART), "--namespace", home, values={})
    assert "cannot reuse a name that is still in use" in said
    fight = f"the operator of the release {home}/lepton looks after all namespaces already, and two would fight"
    taken = f"the CRD {CRD} is in this cluster already and belongs to the release {home}/lepton"
    for other in (home, namespace(api, "elsewhere")):
        words = ("install", "second", str(CHART), "--namespace", other)
        said = refusal(releases, *words, values={})
        assert fight in said
        assert "uninstall that, or give each of them watchNamespaces of its own" in said
        assert fight in refusal(releases, *words, values={"crds": {"install": False}})
        said = refusal(releases, *words, values={"watchNamespaces": [other]})
        assert taken in said
        assert "set crds.install=false (and watchNamespaces of both" in said
    assert operators(api, home) == ["lepton-operator"]
    assert releases("list", "--all-namespaces", "--short").split() == ["lepton"]


def test_namespaced_releases_side_by_side(releases: Helm, api: Api, home: str) -> None:
    """The CRD by one; two that look after their own namespaces; a third that would look after one of these."""
    api.apply(bare(releases), manager="kubectl")
    servable(api)
    homes = {name: namespace(api, name) for name in ("team-a", "team-b")}
    for other in homes.values():
        install(releases, other, {"crds": {"install": False}, "watchNamespaces": [other]})
    for other in homes.values():
        assert operators(api, other) == ["lepton-operator"]
        (role,) = [found for found in api.list("Role", other) if found["metadata"]["name"] == "lepton-operator"]
        assert role["metadata"]["labels"]["lepton.dev/operator-of"] == "namespace"
    assert not [f for f in api.list("ClusterRole") if "lepton" in f["metadata"]["name"]]
    values: Values = {"crds": {"install": False}, "watchNamespaces": [home, homes["team-b"]]}
    said = refusal(releases, "install", "third", str(CHART), "--namespace", home, values=values)
    assert f"the release {homes['team-b']}/lepton looks after the namespace {homes['team-b']} already" in said
    said = refusal(releases, "install", "all", str(CHART), "--namespace", home, values={"crds": {"install": False}})
    assert "/lepton looks after the namespace team-" in said
    # Each is upgraded and uninstalled by itself.
    before = everything(api)
    values = {"crds": {"install": False}, "watchNamespaces": [homes["team-a"]], "replicas": 1}
    releases("upgrade", "lepton", str(CHART), "--namespace", homes["team-a"], values=values)
    assert api.get("Deployment", "lepton-operator", homes["team-a"])["spec"]["replicas"] == 1
    assert api.get("Deployment", "lepton-operator", homes["team-b"])["spec"]["replicas"] == 2
    uninstall(releases, homes["team-a"])
    eventually(lambda: not api.list("Pod", homes["team-a"]), "its pods are gone")
    gone = before - everything(api)
    assert gone
    assert all(f"/{homes['team-a']}/" in name for name in gone)


def test_a_namespaced_install_by_somebody_without_rights_elsewhere(releases: Helm, api: Api, home: str) -> None:
    """Of its namespace's administrator, who may do there what the operator may, nothing cluster-wide is asked for."""
    api.apply(bare(releases), manager="kubectl")
    values: Values = {"crds": {"install": False}, "watchNamespaces": [home]}
    (role,) = [f for f in releases.objects(values, namespace=home).of("Role") if f["metadata"]["name"][-5:] != "lease"]
    leases = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": EVERY_VERB}
    api.create({"kind": "Role", "metadata": {"name": "more"}, "rules": [*role["rules"], leases]}, home)
    plane = releases.plane
    assert plane is not None
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "somebody"}
    for kind, name in (("ClusterRole", "admin"), ("Role", "more")):
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
        body = {"kind": "RoleBinding", "metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
        api.create(body, home)
    somebody = replace(releases, kubeconfig=plane.access("somebody").write(releases.home / "somebody"))
    somebody("install", "lepton", str(CHART), "--namespace", home, "--wait", values=values)
    somebody("upgrade", "lepton", str(CHART), "--namespace", home, values={**values, "replicas": 1})
    assert api.get("Deployment", "lepton-operator", home)["spec"]["replicas"] == 1
    uninstall(somebody, home)
    assert not operators(api, home)


def take_over(api: Api, home: str, said: str) -> None:
    """Do what the chart says when it refuses a CRD."""
    notes = {"meta.helm.sh/release-name": "lepton", "meta.helm.sh/release-namespace": home}
    assert all(f"{key}={value}" in said for key, value in notes.items())
    assert "app.kubernetes.io/managed-by=Helm" in said
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    api.patch("CustomResourceDefinition", CRD, {"metadata": {"annotations": notes, "labels": labels}})


def test_a_crd_that_helm_did_not_make(releases: Helm, api: Api, home: str) -> None:
    api.apply(bare(releases), manager="kubectl")
    words = ["install", "lepton", str(CHART), "--namespace", home]
    said = refusal(releases, *words, values={})
    assert f"the CRD {CRD} is in this cluster already and was made without Helm" in said
    assert "--force-conflicts" in said
    take_over(api, home, said)
    releases(*words, "--force-conflicts", values={})


def bare(helm: Helm) -> Object:
    """The CRD as `lepton operator crd` prints it."""
    return {**helm.objects().one("CustomResourceDefinition"), "metadata": {"name": CRD}}


def test_an_upgrade_from_an_earlier_chart_keeps_stored_models(releases: Helm, api: Api, home: str) -> None:
    install(releases, home, chart=EARLIER)
    servable(api)
    stored = api.create(model("old", replicas=3, server={"args": ["--x=1"]}), home)
    with pytest.raises(ApiError, match=r'unknown field "spec.gpu"'):
        strictly(api, {**model("new"), "spec": {**stored["spec"], "gpu": {}}}, home)
    releases("upgrade", "lepton", str(CHART), "--namespace", home, "--wait", values={})
    found = api.get("LeptonModel", "old", home)
    assert found["metadata"]["uid"] == stored["metadata"]["uid"]
    assert found["metadata"]["generation"] == stored["metadata"]["generation"]
    assert found["spec"]["replicas"] == 3
    assert found["spec"]["server"]["args"] == ["--x=1"]
    # The CRD has grown, by fields and subresources, and stored models can be written again.
    eventually(lambda: grown(api), "the CRD's new schema is served")
    strictly(api, {**model("new"), "spec": {**stored["spec"], "gpu": {}}}, home)
    api.patch("LeptonModel", "old", {"spec": {"replicas": 2}}, home)
    assert api.get("LeptonModel", "old", home, "scale")["spec"]["replicas"] == 2
    # It is kept from now on, and what is no more in the chart is gone.
    crd = api.get("CustomResourceDefinition", CRD)
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert api.find("ConfigMap", "lepton-operator-defaults", home) is None
    (container,) = api.get("Deployment", "lepton-operator", home)["spec"]["template"]["spec"]["containers"]
    assert container["args"][:2] == ["operator", "run"]
    # And back.
    releases("rollback", "lepton", "1", "--namespace", home)
    assert api.get("LeptonModel", "old", home)["metadata"]["uid"] == stored["metadata"]["uid"]


def grown(api: Api) -> bool:
    paths = api.call("GET", "/apis/lepton.dev/v1alpha1")["resources"]
    return "leptonmodels/scale" in {found["name"] for found in paths}


def strictly(api: Api, body: Object, home: str) -> Object:
    """Try to create it without forgiving unknown fields. Raises: ApiError."""
    query = {"dryRun": "All", "fieldValidation": "Strict"}
    return api.call("POST", api.path(body["kind"], home), {"apiVersion": "lepton.dev/v1alpha1", **body}, query)


@pytest.mark.parametrize("value", ["serviceMonitor", "podMonitor", "prometheusRule"])
def test_an_install_without_the_kinds_of_prometheus(releases: Helm, api: Api, home: str, value: str) -> None:
    kind = value[0].upper() + value[1:]
    before = everything(api)
    values = {"metrics": {value: {"enabled": True}}}
    said = refusal(releases, "install", "lepton", str(CHART), "--namespace", home, values=values)
    assert f"metrics.{value}.enabled is true, but this cluster knows no {kind} (monitoring.coreos.com/v1)" in said
    assert everything(api) == before


def test_an_install_with_them(releases: Helm, api: Api, home: str, prometheus: Path) -> None:
    kinds: Sequence[str] = tuple(prometheus_kinds.PLURALS)
    with prometheus_kinds.installed(api, prometheus):
        install(releases, home, {"metrics": {kind[0].lower() + kind[1:]: {"enabled": True} for kind in kinds}})
        assert [len(api.list(kind, home)) for kind in kinds] == [1, 1, 1]
        uninstall(releases, home)
        assert [len(api.list(kind, home)) for kind in kinds] == [0, 0, 0]


def test_an_uninstall_while_models_run_leaves_these_and_what_is_kept(releases: Helm, api: Api, home: str) -> None:
    before = everything(api)
    releases("install", "lepton", str(CHART), "--namespace", home, "--wait", values={})
    serving(api, home, "m")
    eventually(lambda: api.get("Deployment", "m", home)["status"].get("readyReplicas"), "the model's pod is ready")
    # Pods of kwok never end: a test that fails leaves nothing either.
    said = refusal(releases, "test", "lepton", "--namespace", home, "--timeout", "1s")
    assert f"Pod/{home}/lepton-operator-test not ready" in said
    said = uninstall(releases, home)
    assert f"[CustomResourceDefinition] {CRD}" in said
    pods = {f"Pod/{home}/{pod['metadata']['name']}" for pod in api.list("Pod", home, "app=m")}
    of_model = {f"LeptonModel/{home}/m", f"Deployment/{home}/m", f"Service/{home}/m", *pods}
    sets = {f"ReplicaSet/{home}/{found['metadata']['name']}" for found in api.list("ReplicaSet", home, "app=m")}
    assert len(pods) == len(sets) == 1

    nothing_but(api, before | KEPT | of_model | sets)
    assert of_model | sets | KEPT <= everything(api)
    # A later install elsewhere does not take it silently, and then has the model.
    elsewhere = namespace(api, "elsewhere")
    said = refusal(releases, "install", "lepton", str(CHART), "--namespace", elsewhere, values={})
    assert f"belongs to the release {home}/lepton" in said
    assert "--force-conflicts" not in said
    take_over(api, elsewhere, said)
    install(releases, elsewhere, {"crds": {"keep": False}})
    assert api.get("LeptonModel", "m", home)
    # Where the CRD is not kept, an uninstall takes all models along; what they own is for the cluster to collect, which
    # needs to have known the CRD for longer than a test takes.
    uninstall(releases, elsewhere)
    made = {f"Namespace/{elsewhere}", f"ServiceAccount/{elsewhere}/default", f"ConfigMap/{elsewhere}/kube-root-ca.crt"}
    nothing_but(api, (before | made | of_model | sets) - {f"LeptonModel/{home}/m"})
