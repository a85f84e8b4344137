"""The pods of a model as the scenarios need them: which there are, what they say, who serves which stream."""

import json
import re
import threading
from collections.abc import Sequence

import grpc

from lepton.v1 import stats_pb2_grpc
from lepton.v1.stats_pb2 import GetStatsRequest, Stats
from tests.cluster.api import Api, ApiError, Object

CONTROL_PORT = 50052
_REQUEST = re.compile(r"request_id\W+([\w.-]+)")


def servers(api: Api, model: str, namespace: str) -> Sequence[Object]:
    """The pods of a model that are there, those that end included."""
    return api.list("Pod", namespace, labels=f"lepton.dev/model={model},lepton.dev/component=server")


def leaving(pod: Object) -> bool:
    """Whether it ends."""
    return "deletionTimestamp" in pod["metadata"]


def ready(pod: Object) -> bool:
    """Whether it serves and stays."""
    conditions = pod.get("status", {}).get("conditions", [])
    return not leaving(pod) and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def stats(pod: Object) -> Stats | None:
    """What the server of a pod says of itself; None where it does not answer."""
    address = pod.get("status", {}).get("podIP")
    if address is None:
        return None
    with grpc.insecure_channel(f"{address}:{CONTROL_PORT}") as channel:
        try:
            answer: Stats = stats_pb2_grpc.StatsServiceStub(channel).GetStats(GetStatsRequest(), timeout=5).stats
        except grpc.RpcError:
            return None
        return answer


class Servers:
    """Follows the access logs of all pods of a model, those that come and those that go: who served which stream.

    Attributes:
        served: pod names by request id.
    """

    def __init__(self, api: Api, model: str, namespace: str) -> None:
        self.served: dict[str, str] = {}
        self._api, self._model, self._namespace = api, model, namespace
        self._followed: set[str] = set()
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            for pod in servers(self._api, self._model, self._namespace):
                name, statuses = pod["metadata"]["name"], pod.get("status", {}).get("containerStatuses", [])
                if name not in self._followed and any("running" in status["state"] for status in statuses):
                    self._followed.add(name)
                    threading.Thread(target=self._follow, args=(name,), daemon=True).start()

    def _follow(self, pod: str) -> None:
        """To the end of its container."""
        path = self._api.path("Pod", self._namespace, pod, "log")
        try:
            for line in self._api.lines(path, {"follow": "true"}):
                found = _REQUEST.search(line)
                if found is not None:
                    self.served[found[1]] = pod
        except (ApiError, OSError):
            self._followed.discard(pod)  # The kubelet was away: once more, from the start.

    def close(self) -> None:
        """Follows no more pods."""
        self._ended.set()
        self._watcher.join()


def leader(api: Api, namespace: str, lease: str = "lepton-operator") -> str:
    """Name of the pod that holds the operator's Lease; empty while none does."""
    found = api.find("Lease", lease, namespace) or {}
    identity = str(found.get("spec", {}).get("holderIdentity") or "")
    return identity.rpartition("_")[0]


def show(objects: Sequence[Object]) -> str:
    """Names and phases, for messages."""
    found = {o["metadata"]["name"]: o.get("status", {}).get("phase") for o in objects}
    return json.dumps(found)
