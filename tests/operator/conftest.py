"""What the operator's pure tests are made of: models, Deployments and pods as the API would give them."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from lepton_operator import names
from lepton_operator.kube.decode import decode
from lepton_operator.observed import Child, Deployment, Job, Model, Pod
from lepton_operator.plan import Observed, Plan, plan
from lepton_operator.settings import PodSettings

Make = Callable[..., Any]
EMBEDDED: dict[str, Any] = {"model": {"source": {"embedded": {}}}}
HUB: dict[str, Any] = {"model": {"source": {"huggingFace": {"repo": "owner/name"}}}}
UID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def model() -> Make:
    """model(name="m", generation=1, status=None, **spec): by default the embedded model."""

    def make(name: str = "m", *, generation: int = 1, status: dict[str, Any] | None = None, **spec: Any) -> Model:
        metadata = {"name": name, "namespace": "ns", "uid": UID, "generation": generation, "resourceVersion": "1"}
        return msgspec.convert({"metadata": metadata, "spec": {**EMBEDDED, **spec}, "status": status or {}}, Model)

    return make


@pytest.fixture
def settings() -> PodSettings:
    return PodSettings(server_image="server:1")


@pytest.fixture
def live() -> Make:
    """live(manifest, **status): an object as the API has it after the manifest was applied."""
    kinds: dict[str, type[Child]] = {"Deployment": Deployment, "Job": Job}

    def make(manifest: dict[str, Any], generation: int = 1, **status: Any) -> Child:
        metadata = {
            **manifest["metadata"], "uid": f"uid-{manifest['kind']}-{manifest['metadata']['name']}",
            "resourceVersion": "7", "generation": generation, "managedFields": [{"manager": "x"}],
        }  # fmt: skip
        body = {**manifest, "metadata": metadata, "status": status}
        found = decode(kinds.get(manifest["kind"], Child), msgspec.json.encode(body))
        assert isinstance(found, Child)
        return found

    return make


@pytest.fixture
def pod() -> Make:
    """pod(name, ready=True, revision="a", ...): a pod of the model m."""

    def make(
        name: str,
        *,
        ready: bool = True,
        revision: str = "a",
        marked: bool = False,
        leaving: bool = False,
        unschedulable: str | None = None,
        component: str = names.SERVER,
        containers: list[dict[str, Any]] | None = None,
    ) -> Pod:
        conditions = [{"type": "Ready", "status": "True" if ready and unschedulable is None else "False"}]
        if unschedulable is not None:
            conditions.append(
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": unschedulable}
            )
        metadata: dict[str, Any] = {
            "name": name, "namespace": "ns", "uid": f"uid-{name}",
            "labels": {names.MODEL: "m", names.COMPONENT: component, "pod-template-hash": revision},
        }  # fmt: skip
        if marked:
            metadata["annotations"] = {names.DELETION_COST: "-1000"}
        if leaving:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        status = {
            "phase": "Running",
            "conditions": conditions,
            "containerStatuses": containers or [],
            "podIP": "10.0.0.1",
        }
        return msgspec.convert({"metadata": metadata, "status": status}, Pod)

    return make


class World:
    """A cluster that takes what plans apply: for what follows from several plans."""

    def __init__(self, settings: PodSettings, live: Make) -> None:
        self.settings, self._live = settings, live
        self.children: dict[tuple[str, str], Child] = {}
        self.pods: list[Pod] = []
        self.fetch_pods: list[Pod] = []

    def observed(self, model: Model) -> Observed:
        return Observed(model, dict(self.children), list(self.pods), list(self.fetch_pods))

    def plan(self, model: Model, target: int | None = None, **more: Any) -> Plan:
        wanted = model.spec.replicas if target is None else target
        return plan(self.observed(model), more.pop("settings", self.settings), wanted, now=more.pop("now", 0.0), **more)

    def apply(self, planned: Plan, **status: Any) -> None:
        from lepton_operator.plan import Apply, Delete

        for action in planned.actions:
            if isinstance(action, Apply):
                manifest = action.manifest
                more = status if manifest["kind"] == "Deployment" else {}
                self.children[manifest["kind"], manifest["metadata"]["name"]] = self._live(manifest, **more)
            elif isinstance(action, Delete):
                del self.children[action.kind, action.target.metadata.name]

    def set_status(self, kind: str, name: str, **status: Any) -> None:
        found = self.children[kind, name]
        assert isinstance(found, Deployment | Job)
        parsed = msgspec.convert(status, type(found.status))
        self.children[kind, name] = msgspec.structs.replace(found, status=parsed)

    def settle(self, name: str = "m") -> None:
        """Let the Deployment's controller report that all is done."""
        found = self.children["Deployment", name]
        assert isinstance(found, Deployment)
        count = found.spec.replicas
        self.set_status(
            "Deployment", name, observedGeneration=1, replicas=count, updatedReplicas=count, readyReplicas=count,
            availableReplicas=count,
        )  # fmt: skip


@pytest.fixture
def world(settings: PodSettings, live: Make) -> World:
    return World(settings, live)
