"""The control plane itself: what the other tests rely on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.cluster.api import Api, ApiError, Object, eventually
from tests.cluster.control_plane import ControlPlane


def deployment(name: str, gpus: int, replicas: int = 1, annotations: dict[str, str] | None = None) -> Object:
    limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    labels = {"app": name}
    return {
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations or {}},
                "spec": {"containers": [{"name": "main", "image": "example", "resources": {"limits": limits}}]},
            },
        },
    }


def test_gpu_pods_run_and_the_seventeenth_waits(cluster: ControlPlane, api: Api) -> None:
    api.create({"kind": "Namespace", "metadata": {"name": "gpus"}})
    api.create(deployment("all", 1, replicas=17), "gpus")
    eventually(lambda: api.get("Deployment", "all", "gpus")["status"].get("readyReplicas") == 16, "16 pods ready")
    pods = api.list("Pod", "gpus")
    addresses = [pod["status"]["podIP"] for pod in pods if pod["status"]["phase"] == "Running"]
    assert len(set(addresses)) == 16
    assert all(address.startswith("10.244.") for address in addresses)
    (pending,) = [pod for pod in pods if pod["status"]["phase"] == "Pending"]
    message = eventually(lambda: [c["message"] for c in pending["status"].get("conditions", [])], "a reason")
    assert "Insufficient nvidia.com/gpu" in message[0]
    api.delete("Namespace", "gpus")
    eventually(lambda: api.find("Namespace", "gpus") is None, "the namespace is gone")


@pytest.mark.parametrize(
    ("fate", "phase", "reason"),
    [
        ("never-ready", "Running", None),
        ("image-pull", "Pending", "ImagePullBackOff"),
        ("crash", "Running", "CrashLoopBackOff"),
    ],
)
def test_fates_of_pods(cluster: ControlPlane, api: Api, fate: str, phase: str, reason: str | None) -> None:
    api.create(deployment(fate, 0, annotations={"lepton.test/fate": fate}))

    def pod() -> Object | None:
        found = api.list("Pod", labels=f"app={fate}")
        return found[0] if found and found[0]["status"].get("containerStatuses") else None

    status = eventually(pod, "the pod has a status")["status"]
    assert status["phase"] == phase
    (container,) = status["containerStatuses"]
    assert container["state"].get("waiting", {}).get("reason") == reason
    assert not container["ready"]
    api.delete("Deployment", fate)


def test_writes_are_audited_with_user_and_time(control_plane: ControlPlane, api: Api) -> None:
    mark = control_plane.audit.mark()
    api.create({"kind": "ConfigMap", "metadata": {"name": "audited"}})
    api.get("ConfigMap", "audited")

    def writes() -> list[str]:
        return [w.what for w in control_plane.audit.since(mark) if w.user == "tests-admin"]

    assert eventually(writes, "a line of the audit log") == ["create configmaps default/audited"]


def test_others_are_refused_by_rbac(control_plane: ControlPlane) -> None:
    stranger = Api(control_plane.access("stranger"))
    with pytest.raises(ApiError, match=r'403 Forbidden: secrets is forbidden: User "stranger" cannot list') as caught:
        stranger.list("Secret")
    assert caught.value.status == 403


def test_everything_ends_with_a_killed_run(programs: dict[str, Path], tmp_path: Path) -> None:
    """A test run that is killed leaves neither processes nor folders."""
    script = f"""
from pathlib import Path
from tests.cluster.control_plane import ControlPlane
plane = ControlPlane({{name: Path(path) for name, path in { ({k: str(v) for k, v in programs.items()})!r}.items()
                      if name in ("etcd", "kube-apiserver")}}, namespaced=False)
print(plane.folder, *(p.process.pid for p in plane.programs.values()), flush=True)
input()
"""
    run = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    assert run.stdout is not None
    folder, *ids = run.stdout.readline().split()
    assert Path(folder).is_dir()
    assert len(ids) == 2
    run.send_signal(signal.SIGKILL)
    run.wait()
    eventually(lambda: not any(psutil.pid_exists(int(pid)) for pid in ids), "the programs have ended")
    eventually(lambda: not Path(folder).exists(), "the folder is gone")
