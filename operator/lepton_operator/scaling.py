"""The autoscaled models: samples of their pods, decisions, and what their status says of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lepton_operator.api import Reason
from lepton_operator.api.spec import Autoscaling
from lepton_operator.api.status import AutoscalingStatus
from lepton_operator.autoscale import Autoscaler, Decision, Sample
from lepton_operator.kube.store import ModelKey
from lepton_operator.observed import Deployment, Model, Pod
from lepton_operator.scrape import Reading, Scraper
from lepton_operator.status import Scaling
from lepton_operator.stores import Stores

REPORT_SECONDS = 60.0
REPORT_CHANGE = 0.2
"""status.load is written when `desired` changes, or once in REPORT_SECONDS when it moved by this share."""
SILENCE_SECONDS = 10.0
"""Silence for longer than this is told in the conditions."""


@dataclass
class _State:
    """One model."""

    scaler: Autoscaler
    status: AutoscalingStatus
    reported_load: float
    reported_at: float
    decision: Decision | None = None
    silent_since: float | None = None
    verdict: tuple[bool, Reason, str] = field(default=(True, Reason.AUTOSCALING, "replicas follow the load"))


OnDecision = Callable[[Model, int, int, str], None]


class ScalingLoop:
    """Decides for all autoscaled models at intervals.

    Args:
        changed: told a model whose `desired` or status has changed.
        decided: told a model, its replicas before and after, and why.
    """

    def __init__(
        self,
        stores: Stores,
        scraper: Scraper,
        interval: float,
        changed: Callable[[ModelKey], None],
        decided: OnDecision,
    ) -> None:
        self._stores, self._scraper, self._interval = stores, scraper, interval
        self._changed, self._decided = changed, decided
        self._states: dict[ModelKey, _State] = {}

    async def run(self) -> None:
        """Decides for ever."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self.tick(began)
            await asyncio.sleep(max(0.05, began + self._interval - loop.time()))

    def tick(self, now: float) -> None:
        """Takes a sample of every autoscaled model and decides."""
        watched: list[Pod] = []
        for key in self._stores.models.names():
            model = self._stores.models.get(*key)
            if not isinstance(model, Model) or model.spec.autoscaling is None:
                self._states.pop(key, None)
                continue
            pods = [pod for pod in self._stores.servers(key) if not pod.leaving]
            watched += pods
            self._decide(key, model, pods, now)
        self._scraper.watch(watched)

    def target(self, model: Model, deployment: Deployment | None) -> int:
        """Replicas that the model shall have by its load."""
        return self._state(model, deployment).scaler.desired

    def report(self, model: Model) -> Scaling | None:
        """What the status says of the scaling; None where there is none."""
        if model.spec.autoscaling is None:
            return None
        state = self._state(model, None)
        active, reason, message = state.verdict
        return Scaling(state.status, active, reason, message)

    def forget(self, key: ModelKey) -> None:
        """Forgets a model that is no more."""
        self._states.pop(key, None)

    def live(self) -> dict[ModelKey, tuple[int, float]]:
        """Desired replicas and load of every autoscaled model: what the metrics show."""
        found = {}
        for key, state in self._states.items():
            load = state.decision.load if state.decision is not None else None
            found[key] = state.scaler.desired, load if load is not None else state.reported_load
        return found

    def _state(self, model: Model, deployment: Deployment | None) -> _State:
        spec = model.spec.autoscaling
        assert spec is not None
        state = self._states.get(model.key)
        now = asyncio.get_running_loop().time()
        if state is None:
            found = deployment or self._stores.children["Deployment"].get(*model.key)
            replicas = found.spec.replicas if isinstance(found, Deployment) else spec.min_replicas
            state = _seed(model, spec, replicas, now)
            self._states[model.key] = state
        elif state.scaler.spec != spec:
            state.scaler = Autoscaler(spec, state.scaler.desired, now)
            self._set(state, state.scaler.desired, "the spec has changed", now)
        return state

    def _decide(self, key: ModelKey, model: Model, pods: list[Pod], now: float) -> None:
        state = self._state(model, None)
        readings = [(pod, self._scraper.reading(pod, now)) for pod in pods]
        decision = state.scaler.decide(_sample(readings, now))
        before, state.decision = state.status, decision
        if decision.desired != before.desired:
            self._set(state, decision.desired, decision.reason, now)
            self._decided(model, before.desired, decision.desired, decision.reason)
        elif decision.mode is not before.mode or self._moved(state, now):
            self._set(state, decision.desired, decision.reason, now)
        verdict = self._verdict(state, decision, now)
        if state.status != before or verdict != state.verdict:
            state.verdict = verdict
            self._changed(key)

    def _moved(self, state: _State, now: float) -> bool:
        load = state.decision.load if state.decision is not None else None
        if load is None or now - state.reported_at < REPORT_SECONDS:
            return False
        return abs(load - state.reported_load) > REPORT_CHANGE * max(state.reported_load, load)

    def _set(self, state: _State, desired: int, reason: str, now: float) -> None:
        """Renews what the status says."""
        decision, before = state.decision, state.status
        if decision is not None and decision.load is not None:
            state.reported_load = decision.load
        state.reported_at = now
        state.status = AutoscalingStatus(
            desired=desired,
            load=f"{state.reported_load:.1f}",
            mode=decision.mode if decision is not None else before.mode,
            last_scale_time=_time() if desired != before.desired else before.last_scale_time,
            reason=reason,
        )

    def _verdict(self, state: _State, decision: Decision, now: float) -> tuple[bool, Reason, str]:
        if decision.silent == 0:
            state.silent_since = None
            return True, Reason.AUTOSCALING, "replicas follow the load; spec.replicas is ignored"
        if state.silent_since is None:
            state.silent_since = now
        if now - state.silent_since < SILENCE_SECONDS:
            return state.verdict
        if decision.load is None:
            return False, Reason.METRICS_UNAVAILABLE, "no pod tells its load: replicas stay"
        return True, Reason.METRICS_INCOMPLETE, "some pods do not tell their load: replicas go up only"


def _sample(readings: list[tuple[Pod, Reading | None]], now: float) -> Sample:
    """Draining pods do not count; pods that are not ready count when they answer."""
    loads = [reading.load for _, reading in readings if reading is not None and not reading.draining]
    silent = sum(1 for pod, reading in readings if reading is None and pod.ready)
    ready = sum(1 for pod, reading in readings if pod.ready and not (reading is not None and reading.draining))
    return Sample(now, loads, silent, ready)


def _seed(model: Model, spec: Autoscaling, replicas: int, now: float) -> _State:
    """A model's state as its status tells it, so that a new leader writes nothing new."""
    scaler = Autoscaler(spec, replicas, now)
    before = model.status.autoscaling
    if before is not None and before.desired == scaler.desired:
        status = before
    else:
        last = before.last_scale_time if before is not None else None
        status = AutoscalingStatus(desired=scaler.desired, last_scale_time=last, reason="as it was found")
    try:
        load = float(status.load)
    except ValueError:
        load = 0.0
    return _State(scaler, status, load, now, verdict=_known_verdict(model))


def _known_verdict(model: Model) -> tuple[bool, Reason, str]:
    for condition in model.status.conditions:
        if condition.type == "ScalingActive" and condition.reason in _SCALING_REASONS:
            return condition.status == "True", _SCALING_REASONS[condition.reason], condition.message
    return True, Reason.AUTOSCALING, "replicas follow the load; spec.replicas is ignored"


_SCALING_REASONS = {
    reason.value: reason for reason in (Reason.AUTOSCALING, Reason.METRICS_UNAVAILABLE, Reason.METRICS_INCOMPLETE)
}


def _time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
