"""Who else may own `spec.replicas`: kubectl, a HorizontalPodAutoscaler, and what KEDA makes of a ScaledObject.

KEDA itself does not run here. It makes an HPA of an external metric, which its metrics server answers, and writes 0 and
1 to /scale; an HPA of that form, a server of that API and those writes are what is tested.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.api import Api, Object, eventually
from tests.cluster.control_plane import ControlPlane, free_ports
from tests.cluster.models import model, wait_condition, wait_ready
from tests.cluster.operators import Operator, quiet

pytestmark = pytest.mark.usefixtures("operator")
TARGET: Object = {"apiVersion": "lepton.dev/v1alpha1", "kind": "LeptonModel", "name": "m"}
API_SERVICE = "v1beta1.external.metrics.k8s.io"
Tell = Callable[[int], None]


@pytest.fixture
def metric(cluster: ControlPlane, api: Api, namespace: str) -> Iterator[Tell]:
    """The API of external metrics is served; call it to set the value of all metrics."""
    (port,) = free_ports(1)
    pair = cluster.serving
    command = [sys.executable, "-m", "tests.cluster.external_metrics", str(pair.certificate), str(pair.key), str(port)]
    process = subprocess.Popen(
        cluster.command(*command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    cluster.janitor.process(process.pid)
    assert process.stdin is not None
    assert process.stdout is not None
    lines, values = process.stdout, process.stdin
    assert lines.readline() == "ready\n"

    def tell(value: int) -> None:
        values.write(f"{value}\n")
        values.flush()
        assert lines.readline() == "done\n"

    service = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
    api.create({"kind": "Service", "metadata": {"name": "metrics"}, "spec": service}, namespace)
    spec = {
        "group": "external.metrics.k8s.io",
        "version": "v1beta1",
        "service": {"name": "metrics", "namespace": namespace, "port": port},
        "insecureSkipTLSVerify": True,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
    }
    api.create({"kind": "APIService", "metadata": {"name": API_SERVICE}, "spec": spec})
    try:
        yield tell
    finally:
        api.delete("APIService", API_SERVICE)
        process.stdin.close()
        process.wait()


def replicas(api: Api, namespace: str) -> int:
    """What is asked for."""
    return int(api.get("LeptonModel", "m", namespace)["spec"]["replicas"])


def serve(api: Api, namespace: str, count: int) -> None:
    """Wait until so many replicas are asked for and ready."""
    eventually(lambda: replicas(api, namespace) == count, f"{count} are asked for", 90)
    eventually(
        lambda: api.get("LeptonModel", "m", namespace)["status"].get("readyReplicas") == count, f"{count} are ready"
    )


def test_kubectl_scale_and_stop(api: Api, namespace: str) -> None:
    api.create(model("m"), namespace)
    wait_ready(api, namespace)
    api.patch("LeptonModel", "m", {"spec": {"replicas": 3}}, namespace, "scale")
    serve(api, namespace, 3)
    api.patch("LeptonModel", "m", {"spec": {"replicas": 0}}, namespace, "scale")
    wait_condition(api, "m", "Available", "False", "Stopped", namespace)
    eventually(lambda: not api.list("Pod", namespace), "no pod is left")
    api.patch("LeptonModel", "m", {"spec": {"replicas": 1}}, namespace, "scale")
    wait_ready(api, namespace)


def test_an_hpa_owns_replicas_through_scale(
    cluster: ControlPlane, api: Api, namespace: str, operator: Operator
) -> None:
    """A real HorizontalPodAutoscaler raises the model to its minimum; the operator does not fight it."""
    api.create(model("m"), namespace)
    wait_ready(api, namespace)
    spec = {"scaleTargetRef": TARGET, "minReplicas": 3, "maxReplicas": 5}
    api.create({"kind": "HorizontalPodAutoscaler", "metadata": {"name": "m"}, "spec": spec}, namespace)
    serve(api, namespace, 3)
    quiet(cluster, [operator.user])
    assert replicas(api, namespace) == 3


def test_what_keda_makes_of_a_scaled_object_works(api: Api, namespace: str, metric: Tell) -> None:
    api.create(model("m"), namespace)
    wait_ready(api, namespace)
    name = {"name": "s0-prometheus", "selector": {"matchLabels": {"scaledobject.keda.sh/name": "m"}}}
    external = {"metric": name, "target": {"type": "AverageValue", "averageValue": "5"}}
    spec = {"scaleTargetRef": TARGET, "minReplicas": 1, "maxReplicas": 5}
    spec["metrics"] = [{"type": "External", "external": external}]
    metric(18)
    api.create({"kind": "HorizontalPodAutoscaler", "metadata": {"name": "keda-hpa-m"}, "spec": spec}, namespace)
    serve(api, namespace, 4)

    # Not active: KEDA writes 0, and the HPA leaves what is stopped alone. Active again: it writes 1, the HPA goes on.
    api.patch("LeptonModel", "m", {"spec": {"replicas": 0}}, namespace, "scale")
    wait_condition(api, "m", "Available", "False", "Stopped", namespace)
    eventually(lambda: not api.list("Pod", namespace), "no pod is left")
    assert replicas(api, namespace) == 0
    api.patch("LeptonModel", "m", {"spec": {"replicas": 1}}, namespace, "scale")
    serve(api, namespace, 4)
