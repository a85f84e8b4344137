"""Records docs/operator-transcript.md: `python -m tests.cluster.transcript`.

The commands and their answers are real: a control plane of tests/cluster, kwok's nodes and pods, the shipped operator,
and StatsService on the pods' addresses, whose load this script sets.
"""

import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.cluster import build
from tests.cluster.api import Api, Object, eventually
from tests.cluster.control_plane import CONTROLLERS, SERVERS, ControlPlane
from tests.cluster.kwok import START, add_node
from tests.cluster.models import is_ready
from tests.cluster.operators import Operator, install
from tests.cluster.pods import Figures, Pods

OUT = Path(__file__).parents[2] / "docs" / "operator-transcript.md"
MODEL: Object = {
    "apiVersion": "lepton.dev/v1alpha1",
    "kind": "LeptonModel",
    "metadata": {"name": "demo"},
    "spec": {
        "model": {"source": {"embedded": {}}},
        "gpu": {"count": 1},
        "pod": {"annotations": {START: "2s"}},
        "autoscaling": {
            "minReplicas": 1,
            "maxReplicas": 6,
            "targetStreams": 16,
            "stableSeconds": 10,
            "panicSeconds": 2,
            "scaleDownSeconds": 15,
        },
    },
}


class Recorder:
    """Runs commands and writes them down with what they said."""

    def __init__(self, plane: ControlPlane, kubeconfig: Path, folder: Path) -> None:
        self._plane, self._folder = plane, folder
        self._kubectl = [str(build.program("kubectl")), f"--kubeconfig={kubeconfig}"]
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines += ["", text, ""]

    def command(self, words: str) -> list[str]:
        return self._plane.command(*self._kubectl, *shlex.split(words)[1:])

    def run(self, words: str) -> None:
        """One command to its end."""
        done = subprocess.run(self.command(words), capture_output=True, text=True, cwd=self._folder, check=True)
        self._block(words, done.stdout)

    def watch(self, words: str, until: Callable[[], object]) -> None:
        """A command that goes on until something is so."""
        process = subprocess.Popen(self.command(words), stdout=subprocess.PIPE, text=True, cwd=self._folder)
        assert process.stdout is not None
        until()
        time.sleep(1)  # The last lines are on their way.
        process.terminate()
        self._block(words, process.stdout.read())

    def _block(self, words: str, said: str) -> None:
        self.lines += ["```console", f"$ {words}", *said.rstrip().splitlines(), "```"]


class Load:
    """Keeps all pods answering with the load of the moment, spread over those that are ready."""

    def __init__(self, api: Api, pods: Pods) -> None:
        self._api, self._pods = api, pods
        self.streams = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.3):
            addresses = [p["status"]["podIP"] for p in self._api.list("Pod") if p.get("status", {}).get("podIP")]
            share, rest = divmod(self.streams, max(1, len(addresses)))
            self._pods.set({a: Figures(running=share + (i < rest)) for i, a in enumerate(addresses)})

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def main() -> int:
    """Record, and write the page."""
    plane = ControlPlane(build.programs(*SERVERS, *CONTROLLERS, "kubectl"))
    load = None
    try:
        api = plane.api
        install(api)
        for name in ("gpu-0", "gpu-1"):
            add_node(api, name)
        pods = Pods(plane)
        load = Load(api, pods)
        Operator(plane, "transcript", args=())
        record = Recorder(plane, api.access.write(plane.folder / "admin.kubeconfig"), plane.folder)
        (plane.folder / "demo.yaml").write_text(yaml.safe_dump(MODEL, sort_keys=False))
        record.lines += ["# A model's life, recorded", ""]
        record.lines.append(
            f"`python -m tests.cluster.transcript` wrote this page: Kubernetes {build.kubernetes_version()}, the "
            "operator as it is shipped, nodes and pods played by kwok, load told by real StatsService sockets."
        )
        record.say("The manifest, with short windows so that the page is short:")
        record.lines += ["```yaml", *yaml.safe_dump(MODEL, sort_keys=False).rstrip().splitlines(), "```"]
        _record(record, api, load)
        OUT.write_text("\n".join(record.lines) + "\n")
    finally:
        if load is not None:
            load.close()
        plane.close()
    return 0


def _record(record: Recorder, api: Api, load: Load) -> None:
    def ready(replicas: int) -> Callable[[], object]:
        def check() -> bool:
            found = api.get("LeptonModel", "demo")
            return is_ready(found) and found["status"]["replicas"] == replicas

        return lambda: eventually(check, f"{replicas} ready", 120)

    record.say("## It is created")
    record.run("kubectl apply -f demo.yaml")
    record.watch("kubectl get lm demo -w", ready(1))
    record.run("kubectl get deployment,service,poddisruptionbudget,serviceaccount,pod")
    record.say("## Load comes: 52 streams at once")

    def rise() -> None:
        load.streams = 52
        ready(4)()

    record.watch("kubectl get lm demo -w", rise)
    record.say("## A new image rolls out, without a pod less than four at any time")
    change = '{"spec": {"server": {"image": "lepton-server:next"}}}'
    record.run(f"kubectl patch lm demo --type=merge -p '{change}'")
    record.watch("kubectl get lm demo -w", ready(4))
    record.run("kubectl get replicaset")
    record.say("## The load goes: down after the window, the pods with the fewest streams first")

    def fall() -> None:
        load.streams = 3
        ready(1)()

    record.watch("kubectl get lm demo -w", fall)
    record.say("## What was told meanwhile")
    record.run("kubectl get events --field-selector=involvedObject.kind=LeptonModel --sort-by=.lastTimestamp")
    record.run("kubectl get lm demo -o yaml")
    record.run("kubectl delete lm demo")


if __name__ == "__main__":
    sys.exit(main())
