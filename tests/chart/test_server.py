"""What the chart renders, under every toggle, before a real API server: its schemas and its Pod Security admission."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.chart import prometheus_kinds
from tests.chart.helm import Helm, identity
from tests.chart.toggles import TOGGLES
from tests.cluster.api import Api, ApiError, Object, eventually
from tests.cluster.control_plane import ControlPlane

HOME = "lepton-system"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture(scope="module")
def server(helm: Helm, cluster: ControlPlane, prometheus: Path) -> Iterator[Api]:
    """An API server with all kinds and namespaces of the toggles; Pod Security restricted is enforced in each."""
    api = cluster.api
    for name in (HOME, "team-a", "team-b"):
        api.create({"kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}})
        for account in ("lepton-operator", "other", "own", "theirs"):
            api.create({"kind": "ServiceAccount", "metadata": {"name": account}}, name)
        eventually(partial(api.find, "ServiceAccount", "default", name), "the ServiceAccount of all pods")
    with prometheus_kinds.installed(api, prometheus):
        crd = helm.objects().one("CustomResourceDefinition")
        api.apply(crd)
        eventually(lambda: prometheus_kinds.served(api, "LeptonModel"), "LeptonModels are served")
        yield api
        api.delete("CustomResourceDefinition", crd["metadata"]["name"])
        eventually(lambda: not prometheus_kinds.served(api, "LeptonModel"), "LeptonModels are gone")


@pytest.fixture(scope="module")
def tried() -> set[str]:
    """Manifests that have passed: most toggles change only one."""
    return set()


def try_out(api: Api, found: Object) -> None:
    """A server-side dry run of an apply that forgives no unknown and no doubled field. Raises: ApiError."""
    query = {"fieldManager": "helm", "force": "true", "dryRun": "All", "fieldValidation": "Strict"}
    path = api.path(found["kind"], found["metadata"].get("namespace"), found["metadata"]["name"])
    api.call("PATCH", path, found, query, "application/apply-patch+yaml")


def pods(found: Object) -> Iterator[Object]:
    """The pods of a Deployment."""
    if found["kind"] == "Deployment":
        template = found["spec"]["template"]
        metadata = {**template["metadata"], "generateName": "pod-", "namespace": found["metadata"]["namespace"]}
        yield {"kind": "Pod", "metadata": metadata, "spec": template["spec"]}


@pytest.mark.parametrize("toggle", TOGGLES)
def test_every_manifest_passes_a_server_side_dry_run(helm: Helm, server: Api, tried: set[str], toggle: str) -> None:
    refused = []
    for found in helm.objects(TOGGLES[toggle]).all:
        if (text := json.dumps(found)) in tried:
            continue
        try:
            try_out(server, found)
            # Admission only warns of what a Deployment's pods would be refused for.
            for pod in pods(found):
                server.create(pod, dry_run=True)
            tried.add(text)
        except ApiError as error:
            refused.append(f"{identity(found)}: {error}")
    assert not refused


def test_the_dry_run_finds_an_unknown_field(helm: Helm, server: Api) -> None:
    made = helm.objects({"metrics": {"podMonitor": {"enabled": True}}})
    for kind, part in (("Deployment", "spec"), ("PodMonitor", "spec"), ("LeptonModel", "spec"), ("Service", "spec")):
        found = made.one(kind)
        with pytest.raises(ApiError, match="replicaz"):
            try_out(server, {**found, part: {**found[part], "replicaz": 1}})


def test_a_namespace_that_enforces_pod_security_refuses_what_is_not_restricted(helm: Helm, server: Api) -> None:
    (pod,) = pods(helm.objects().one("Deployment"))
    server.create(pod, dry_run=True)
    del pod["spec"]["containers"][0]["securityContext"]
    with pytest.raises(ApiError, match='violates PodSecurity "restricted:latest": allowPrivilegeEscalation'):
        server.create(pod, dry_run=True)
