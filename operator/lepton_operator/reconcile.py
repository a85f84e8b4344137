"""One model: observe, plan, act, tell."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from lepton_operator.api import API_VERSION, KIND, ConditionType, LeptonModelStatus
from lepton_operator.events import Recorder
from lepton_operator.execute import Executor
from lepton_operator.kube.client import Client
from lepton_operator.kube.decode import decode
from lepton_operator.kube.resources import MODELS
from lepton_operator.kube.store import ModelKey
from lepton_operator.manifests import spec_problems
from lepton_operator.observed import Model, Unreadable
from lepton_operator.plan import Observed, Plan, plan
from lepton_operator.scaling import ScalingLoop
from lepton_operator.scrape import Scraper
from lepton_operator.settings import PodSettings
from lepton_operator.status import Outcome, status, transitions, unreadable_status
from lepton_operator.stores import Stores

CONFLICT_SECONDS = 30.0
"""A stranger's object of our name is looked for again after this long."""
_TYPES = {kind.value for kind in ConditionType}


class Reconciler:
    """Brings models to what they should be.

    Args:
        pod_monitors: whether the cluster knows PodMonitors.
    """

    def __init__(
        self,
        client: Client,
        stores: Stores,
        settings: PodSettings,
        scaling: ScalingLoop,
        recorder: Recorder,
        pod_monitors: Callable[[], bool],
    ) -> None:
        self._client, self._stores, self._settings = client, stores, settings
        self._scaling, self._recorder, self._pod_monitors = scaling, recorder, pod_monitors
        self._executor = Executor(client, stores)

    async def reconcile(self, key: ModelKey) -> float | None:
        """Takes one model as far as it goes now.

        Returns:
            Seconds after which it must be looked at again though nothing has changed; None for never.

        Raises:
            ApiError: try again later. LostLeaseError: this process may not write any more.
        """
        model = self._stores.models.get(*key)
        if model is None or model.metadata.deletion_timestamp is not None:
            self._scaling.forget(key)  # Owner references do the cleaning.
            return None
        if isinstance(model, Unreadable):
            await self._refuse(model, model.status, model.problem)
            return None
        assert isinstance(model, Model)
        wrong = spec_problems(model)
        if wrong:
            await self._refuse(model, model.status, "; ".join(wrong))
            return None
        return await self._carry_out(model)

    async def _carry_out(self, model: Model) -> float | None:
        observed = self._stores.observed(model)
        planned = self._plan(observed)
        if planned.step.needs_loads:
            loads = await Scraper.ask(pod for pod in observed.pods if not pod.leaving)
            planned = self._plan(observed, loads)
        outcome = await self._executor.run(model, planned)
        clean = not outcome.conflicts and outcome.failure is None
        planned_after = planned
        if planned.actions:
            observed = self._stores.observed(model)
            planned_after = self._plan(observed, {})
            if clean and not planned_after.actions:
                return 0.0  # The status is told by a pass that has nothing to do: what other models need comes first.
        await self._tell(model, observed, planned_after, outcome)
        waits = [planned_after.look_again]
        if outcome.conflicts or planned.conflicts or outcome.failure is not None:
            waits.append(CONFLICT_SECONDS)
        return min((wait for wait in waits if wait is not None), default=None)

    def _plan(self, observed: Observed, loads: Any = None) -> Plan:
        model = observed.model
        target = model.spec.replicas
        if model.spec.autoscaling is not None:
            target = self._scaling.target(model, observed.deployment)
        return plan(observed, self._settings, target, now=time.time(), loads=loads, pod_monitors=self._pod_monitors())

    async def _tell(self, model: Model, observed: Observed, planned: Plan, outcome: Outcome) -> None:
        scaling = self._scaling.report(model)
        await self._write(model, model.status, status(observed, planned, outcome, scaling, self._settings, _now()))

    async def _refuse(self, model: Model | Unreadable, before: LeptonModelStatus, problem: str) -> None:
        await self._write(model, before, unreadable_status(before, model.metadata.generation, problem, _now()))

    async def _write(self, model: Model | Unreadable, before: LeptonModelStatus, after: LeptonModelStatus) -> None:
        """Writes the status if it is new, and Events of what has changed."""
        if _own(before) == _own(after):
            return
        metadata = model.metadata
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid},
            "status": _without_none(msgspec.to_builtins(after)),
        }
        answer = await self._client.apply(MODELS, body, force=True, subresource="status")
        self._stores.models.put(decode(MODELS.decoded, answer))
        for condition in transitions(before, after):
            await self._recorder.transition(model, condition)


def _own(found: LeptonModelStatus) -> LeptonModelStatus:
    """The part of a status that is the operator's, in its order."""
    conditions = sorted((c for c in found.conditions if c.type in _TYPES), key=lambda c: c.type)
    return msgspec.structs.replace(found, conditions=conditions)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(part) for key, part in value.items() if part is not None}
    return [_without_none(part) for part in value] if isinstance(value, list) else value


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
