"""Every manifest under examples/models is applied: as a dry run on the API server, some for real on nodes of kwok."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import build
from tests.cluster.api import Api, Object, eventually
from tests.cluster.control_plane import ControlPlane
from tests.cluster.models import wait_ready
from tests.cluster.operators import Operator

FOLDER = Path(__file__).parents[2] / "examples" / "models"
MANIFESTS = sorted(path for path in FOLDER.rglob("*.yaml") if path.name != "values.yaml")
SERVED_BY_KWOK = ("embedded.yaml", "llama-8b.yaml", "hpa.yaml")


def names(path: Path) -> str:
    return str(path.relative_to(FOLDER))


@pytest.fixture
def kubectl(cluster: ControlPlane, programs: dict[str, Path], tmp_path: Path) -> Any:
    """kubectl(words): runs it as the administrator where the API server is; the finished process."""
    config = cluster.api.access.write(tmp_path / "kubeconfig")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(programs["kubectl"]), f"--kubeconfig={config}", f"--cache-dir={tmp_path / 'cache'}", *words]
        return subprocess.run(cluster.command(*command), capture_output=True, text=True, check=False, timeout=120)

    return run


def string(**more: Any) -> Object:
    return {"type": "string", **more}


def structure(required: list[str], **properties: Object) -> Object:
    return {"type": "object", "required": required, "properties": properties}


# Of cert-manager's API the fields that the examples use, as its reference has them; what else is written is refused.
ISSUER = structure([], selfSigned={"type": "object"})
CERTIFICATE = structure(
    ["secretName", "issuerRef"],
    secretName=string(),
    issuerRef=structure(["name"], name=string(), kind=string(), group=string()),
    dnsNames={"type": "array", "items": string()},
    privateKey=structure(
        [],
        algorithm=string(enum=["RSA", "ECDSA", "Ed25519"]),
        size={"type": "integer"},
        rotationPolicy=string(enum=["Never", "Always"]),
    ),
)


@pytest.fixture(scope="module")
def cert_manager(installed: Api) -> Iterator[None]:
    """The API of cert-manager as far as the examples use it, checked strictly."""
    made = []
    for kind, spec in (("Issuer", ISSUER), ("Certificate", CERTIFICATE)):
        plural = kind.lower() + "s"
        schema = structure(["spec"], spec=spec)
        body: Object = {
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.cert-manager.io"},
            "spec": {
                "group": "cert-manager.io",
                "scope": "Namespaced",
                "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
            },
        }
        installed.apply(body)
        made.append(body["metadata"]["name"])

    def established() -> bool:
        found = [installed.get("CustomResourceDefinition", name).get("status", {}) for name in made]
        conditions = [{c["type"]: c["status"] for c in status.get("conditions") or []} for status in found]
        return all(c.get("Established") == "True" for c in conditions)

    eventually(established, "cert-manager's API is served", every=0.05)
    yield
    for name in made:
        installed.delete("CustomResourceDefinition", name)


@pytest.mark.parametrize("path", MANIFESTS, ids=names)
def test_the_api_server_takes_it(kubectl: Any, namespace: str, cert_manager: None, path: Path) -> None:
    done = kubectl("apply", f"--namespace={namespace}", "--dry-run=server", "--validate=strict", f"--filename={path}")
    assert done.returncode == 0, done.stderr
    objects = [document for document in yaml.safe_load_all(path.read_text()) if document]
    assert len(done.stdout.splitlines()) == len(objects)


def test_what_is_misspelt_in_an_example_would_be_refused(
    kubectl: Any, namespace: str, cert_manager: None, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.yaml"
    text = (FOLDER / "tls.yaml").read_text()
    for right, misspelt in (("dnsNames:", "dnsName:"), ("tokensSecret:", "tokenSecret:"), ("kind: Issuer", "kind: I")):
        assert right in text
        wrong.write_text(text.replace(right, misspelt))
        command = ("apply", f"--namespace={namespace}", "--dry-run=server", "--validate=strict", f"--filename={wrong}")
        assert kubectl(*command).returncode != 0, misspelt


@pytest.mark.parametrize("name", SERVED_BY_KWOK)
def test_it_becomes_ready_pods(kubectl: Any, namespace: str, api: Api, operator: Operator, name: str) -> None:
    done = kubectl("apply", f"--namespace={namespace}", f"--filename={FOLDER / name}")
    assert done.returncode == 0, done.stderr
    wait_ready(api, namespace)
    waited = kubectl("wait", f"--namespace={namespace}", "--for=condition=Ready", "lm", "--all", "--timeout=60s")
    assert waited.returncode == 0, waited.stderr
    listed = kubectl("get", "lm", f"--namespace={namespace}", "--output=json")
    (model,) = json.loads(listed.stdout)["items"]
    assert model["status"]["readyReplicas"] == 1
    assert model["status"]["endpoint"].startswith(f"dns:///{model['metadata']['name']}-headless.{namespace}.svc")


@pytest.mark.parametrize("path", MANIFESTS, ids=names)
def test_its_head_says_what_it_shows_and_the_command(path: Path) -> None:
    head = re.match(r"(#.*\n)+", path.read_text())
    assert head is not None
    assert re.search(rf"kubectl apply .*-f examples/models/{re.escape(names(path))}", head[0])


def test_every_model_of_an_example_has_a_name_of_its_own() -> None:
    """So that all of them can be tried in one namespace; the namespaced one has a namespace of its own."""
    found = [
        document["metadata"]["name"]
        for path in FOLDER.glob("*.yaml")
        for document in yaml.safe_load_all(path.read_text())
        if document and document["kind"] == "LeptonModel"
    ]
    assert len(found) == len(set(found))


def test_the_namespaced_values_install_roles_in_one_namespace_only() -> None:
    values = FOLDER / "namespaced" / "values.yaml"
    chart = FOLDER.parents[1] / "charts" / "lepton"
    command = [str(build.program("helm")), "template", "lepton", str(chart), "--namespace=team-a", f"--values={values}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    objects = [document for document in yaml.safe_load_all(done.stdout) if document]
    assert {found["metadata"].get("namespace") for found in objects} == {"team-a"}
    assert not {found["kind"] for found in objects} & {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
