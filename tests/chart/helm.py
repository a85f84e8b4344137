"""Helm: charts rendered, and releases on a cluster."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.api import Object
from tests.cluster.control_plane import ControlPlane

CHART = Path(__file__).parents[2] / "charts" / "lepton"
EARLIER = Path(__file__).parent / "fixtures" / "lepton-0.1.0"
MONITORING = tuple(f"monitoring.coreos.com/v1/{kind}" for kind in ("ServiceMonitor", "PodMonitor", "PrometheusRule"))
Values = Mapping[str, Any]


class HelmError(Exception):
    """Helm refused; the text is what it said."""


@dataclass(frozen=True)
class Helm:
    """The program, and where it acts.

    Attributes:
        home: folder of its caches. plane: where the cluster is; None: nowhere, for rendering only.
        kubeconfig: who it is there.
    """

    program: Path
    home: Path
    plane: ControlPlane | None = None
    kubeconfig: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, values: Values | None = None) -> str:
        """Run it, with values as `-f` takes them; its output. Raises: HelmError."""
        command = [str(self.program), *words]
        if values is not None:
            command += ["--values", "-"]
        if self.plane is not None:
            command = self.plane.command(*command, "--kubeconfig", str(self.kubeconfig))
        environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(self.home), **self.environment}
        done = subprocess.run(
            command,
            input=json.dumps(values) if values is not None else "",
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise HelmError(done.stderr.strip())
        return done.stdout

    def text(
        self,
        values: Values | None = None,
        release: str = "lepton",
        namespace: str = "lepton-system",
        more: Sequence[str] = (),
    ) -> str:
        """The chart rendered, as a cluster with the Prometheus operator's kinds would get it. Raises: HelmError."""
        kinds = [word for kind in MONITORING for word in ("--api-versions", kind)]
        return self("template", release, str(CHART), "--namespace", namespace, *kinds, *more, values=values or {})

    def objects(
        self, values: Values | None = None, release: str = "lepton", namespace: str = "lepton-system"
    ) -> "Rendered":
        """The same as objects. Raises: HelmError."""
        return Rendered([found for found in yaml.load_all(self.text(values, release, namespace), LOADER) if found])


LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Rendered:
    """Rendered objects."""

    all: list[Object]

    def of(self, kind: str) -> list[Object]:
        """Those of a kind."""
        return [found for found in self.all if found["kind"] == kind]

    def one(self, kind: str, suffix: str = "") -> Object:
        """The one of a kind whose name ends so."""
        (found,) = [found for found in self.of(kind) if found["metadata"]["name"].endswith(suffix)]
        return found

    @property
    def names(self) -> set[str]:
        """`Kind/name` of all, with the namespace where it has one."""
        return {identity(found) for found in self.all}

    @property
    def container(self) -> Object:
        """The operator's container."""
        (found,) = self.one("Deployment")["spec"]["template"]["spec"]["containers"]
        result: Object = found
        return result


def identity(found: Object) -> str:
    """`Kind/name`, or `Kind/namespace/name`."""
    where = found["metadata"].get("namespace")
    return "/".join([found["kind"], *([where] if where else []), found["metadata"]["name"]])
