"""The kinds of the Prometheus operator, with the schemas that it installs: its own files, by the Go module proxy."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.cluster.api import KINDS, Api, ApiError, Object, eventually
from tests.cluster.build import BuildError, Go, build_once, fingerprint

MODULE = "github.com/prometheus-operator/prometheus-operator@v0.91.0"
PLURALS = {"PodMonitor": "podmonitors", "ServiceMonitor": "servicemonitors", "PrometheusRule": "prometheusrules"}
GROUP = "monitoring.coreos.com"


def files() -> Path:
    """The folder of their CRDs, downloaded once. Raises: BuildError."""
    return build_once("prometheus-operator-crds", fingerprint(MODULE, *PLURALS), _download)


def _download(go: Go, into: Path) -> None:
    command = [go.program, "mod", "download", "-json", MODULE]
    done = subprocess.run(command, cwd=into, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(command)} failed:\n{(done.stderr + done.stdout)[-2000:].strip()}")
    folder = Path(json.loads(done.stdout)["Dir"]) / "example" / "prometheus-operator-crd"
    for plural in PLURALS.values():
        shutil.copyfile(folder / f"{GROUP}_{plural}.yaml", into / f"{plural}.yaml")


@contextmanager
def installed(api: Api, folder: Path) -> Iterator[None]:
    """The cluster serves these kinds; it does not afterwards."""
    crds: list[Object] = [yaml.safe_load((folder / f"{plural}.yaml").read_text()) for plural in PLURALS.values()]
    for crd in crds:
        api.apply(crd)
    eventually(lambda: all(served(api, kind) for kind in PLURALS), "the kinds are served")
    yield
    for crd in crds:
        api.delete("CustomResourceDefinition", crd["metadata"]["name"])
    eventually(lambda: not any(served(api, kind) for kind in PLURALS), "the kinds are gone")


def served(api: Api, kind: str) -> bool:
    """Whether the API server serves this kind, and says so where Helm asks."""
    try:
        api.list(kind)
        version = KINDS[kind][0]
        resources = api.call("GET", f"/apis/{version}")["resources"]
    except ApiError as error:
        if error.status not in (404, 429):  # 429: just now it begins to.
            raise
        return False
    return any(resource["kind"] == kind for resource in resources)


for _kind, _plural in PLURALS.items():
    KINDS.setdefault(_kind, (f"{GROUP}/v1", _plural, True))
