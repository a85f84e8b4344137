"""How many replicas a model should have, from what its pods say. Pure: the clock is given.

Load is what runs, waits, and was refused (per second, times the mean service time), summed over the pods: a sum and not
a mean, because channels pin to pods, and refusals because a bounded queue hides what it refuses. The sum over T, the
streams that a replica should have, gives the replicas; the same is done with referenced KV blocks, and the larger
counts. Two averages are kept, as Knative does: a long one, and a short one that counts while the load is at least twice
what the ready replicas take (panic). Replicas go up at once, and down to the most that was needed during a window: by
the load that lasts, which is what arrives, each for the mean service time, and not the queue that grew while pods
started; and only when there is a little room left in the fewer replicas, or when nothing has asked for more for long.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from lepton_operator.api.spec import Autoscaling
from lepton_operator.api.status import ScalingMode

PANIC_FACTOR = 2.0
NOISE = 2.0
"""Standard deviations of a Poisson load that must fit fewer replicas beside the most of the window."""
PATIENCE = 24
"""Windows after which replicas go down that nothing has asked for meanwhile, however close the load is."""
_EPSILON = 1e-9


@dataclass(frozen=True)
class PodLoad:
    """What one pod says, at one moment.

    Attributes:
        streams: running + waiting. refused: streams that it refused meanwhile would have been (rate x service time).
        kv: share of its KV blocks that requests reference, 0 to 1.
        arrivals: requests that came, a second. service: mean service time, in seconds. None when the pod cannot tell.
        waiting: of the streams, those that wait.
    """

    streams: float
    refused: float = 0.0
    kv: float = 0.0
    arrivals: float | None = None
    service: float | None = None
    waiting: float = 0.0


@dataclass(frozen=True)
class Sample:
    """All pods at one moment.

    Attributes:
        loads: of the pods that answered and are not draining. silent: serving pods that did not answer.
        ready: pods that serve.
    """

    time: float
    loads: Sequence[PodLoad]
    silent: int
    ready: int


@dataclass(frozen=True)
class Decision:
    """What the autoscaler wants.

    Attributes:
        desired: replicas. load: the sum of the moment; None when no pod answered. mode, reason: why.
        silent: pods that did not answer.
    """

    desired: int
    load: float | None
    mode: ScalingMode
    reason: str
    silent: int = 0


@dataclass
class Window:
    """Values of the last seconds: their mean over time, and their maximum."""

    seconds: float
    values: deque[tuple[float, float]] = field(default_factory=deque)

    def add(self, time: float, value: float) -> None:
        """Takes in a value and forgets what is older than the window."""
        self.values.append((time, value))
        while self.values and self.values[0][0] <= time - self.seconds:
            self.values.popleft()

    def mean(self) -> float:
        """The mean of what is there: at the beginning of what has been seen so far."""
        return sum(value for _, value in self.values) / len(self.values)

    def least(self) -> float:
        """The minimum of what is there."""
        return min(value for _, value in self.values)


class MaxWindow:
    """The maximum of the last seconds, in constant time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._falling: deque[tuple[float, int]] = deque()

    def add(self, time: float, value: int) -> int:
        """Takes in a value; the maximum of the window with it."""
        while self._falling and self._falling[-1][1] <= value:
            self._falling.pop()
        self._falling.append((time, value))
        while self._falling[0][0] <= time - self._seconds:
            self._falling.popleft()
        return self._falling[0][1]


class Autoscaler:
    """The decider of one model.

    Args:
        replicas: what there is now; kept until the pods have said enough.
        now: the clock, in seconds, that the samples use.
    """

    def __init__(self, spec: Autoscaling, replicas: int, now: float) -> None:
        self.spec = spec
        self.desired = _clamp(spec, replicas)
        self._began = now
        self._streams = Window(spec.stable_seconds), Window(spec.panic_seconds)
        self._kv = Window(spec.stable_seconds), Window(spec.panic_seconds)
        self._inflow, self._running = Window(spec.panic_seconds), Window(spec.stable_seconds)
        self._offered: tuple[float, float] | None = None
        window = max(spec.scale_down_seconds, 1e-9)
        self._needed, self._guarded, self._long = MaxWindow(window), MaxWindow(window), MaxWindow(PATIENCE * window)
        self._panic_until = -math.inf

    def decide(self, sample: Sample) -> Decision:
        """Takes in a sample and decides."""
        spec = self.spec
        if not sample.loads:
            reason = f"no pod tells its load ({sample.silent} silent)" if sample.silent else "no pod serves yet"
            return Decision(self.desired, None, self._mode(sample.time), reason, sample.silent)
        load = sum(pod.streams + pod.refused for pod in sample.loads)
        kv = sum(pod.kv for pod in sample.loads)
        for window in self._streams:
            window.add(sample.time, load)
        for window in self._kv:
            window.add(sample.time, kv)
        stable, panic = (window.mean() for window in self._streams)
        stable_kv, panic_kv = (window.mean() for window in self._kv)

        lasting = self._lasting(sample, panic)
        capacity = max(sample.ready, 1) * spec.target_streams
        if load >= PANIC_FACTOR * capacity:
            self._panic_until = sample.time + spec.stable_seconds
        panicking = sample.time < self._panic_until
        memory = _pods(stable_kv * 100, spec.target_kv_percent)
        rules = [(_pods(stable, spec.target_streams), "streams"), (memory, "KV cache")]
        if panicking:
            rules += [
                (_pods(panic, spec.target_streams), "streams, panic"),
                (_pods(self._inflow.mean(), spec.target_streams), "arrivals, panic"),
                (_pods(panic_kv * 100, spec.target_kv_percent), "KV cache, panic"),
            ]
        up, why = max(rules, key=lambda rule: rule[0])
        needed = max(_pods(lasting, spec.target_streams), memory)
        # What would still be needed if the same load happened to be higher: a band against flapping by chance.
        guarded = max(_pods(lasting + NOISE * math.sqrt(lasting), spec.target_streams), memory)
        most, most_guarded = self._needed.add(sample.time, needed), self._guarded.add(sample.time, guarded)
        most_long = self._long.add(sample.time, max(up, needed))
        lower = self.desired
        if most_guarded < self.desired:
            lower = most
        elif sample.time - self._began >= PATIENCE * spec.scale_down_seconds:
            lower = min(self.desired, most_long)
        lower = max(up, lower)
        return self._settle(sample, up, lower, panicking, load, why)

    def _lasting(self, sample: Sample, panic: float) -> float:
        """The load that lasts: without the queue that grew while pods started, and without what empties it.

        It is how many requests would be served at once if none had to wait: what arrives, each staying for the mean
        service time. Streams that never fell below some number during the stable time are load too, whatever the mean
        of those that have finished says. Where pods cannot tell what arrives it is the short average.
        """
        arrivals, inflow, complete = 0.0, 0.0, True
        for pod in sample.loads:
            if pod.arrivals is None or pod.service is None:
                complete = False
            else:
                arrivals += pod.arrivals
                inflow += pod.arrivals * pod.service
        self._inflow.add(sample.time, inflow if complete else 0.0)
        self._running.add(sample.time, sum(pod.streams - pod.waiting for pod in sample.loads))
        before, self._offered = self._offered, (sample.time, panic)
        if not complete or before is None:
            return panic
        service = inflow / arrivals if arrivals > 0 else max((pod.service or 0.0 for pod in sample.loads), default=0.0)
        share = 1.0 if service <= 0 else 1 - math.exp(-(sample.time - before[0]) / service)
        offered = before[1] + share * (inflow - before[1])
        self._offered = sample.time, offered
        return max(0.0, offered, self._running.least())

    def _settle(self, sample: Sample, up: int, low: int, panicking: bool, load: float, why: str) -> Decision:
        spec, mode = self.spec, self._mode(sample.time)
        wanted = _clamp(spec, up)
        covered = sample.time - self._began >= spec.scale_down_seconds
        if wanted > self.desired:
            self.desired = wanted
            return Decision(wanted, load, mode, f"up: {why}", sample.silent)
        lower = _clamp(spec, low)
        if lower < self.desired:
            if sample.silent:
                return Decision(self.desired, load, mode, f"not down: {sample.silent} pods are silent", sample.silent)
            if panicking:
                return Decision(self.desired, load, mode, "not down: panic", sample.silent)
            if not covered:
                return Decision(self.desired, load, mode, "not down: the window is not over", sample.silent)
            self.desired = lower
            return Decision(lower, load, mode, "down: the most of the window", sample.silent)
        return Decision(self.desired, load, mode, "as the load is", sample.silent)

    def _mode(self, now: float) -> ScalingMode:
        return ScalingMode.PANIC if now < self._panic_until else ScalingMode.STABLE


def _pods(load: float, target: float) -> int:
    return max(0, math.ceil(load / target - _EPSILON))


def _clamp(spec: Autoscaling, replicas: int) -> int:
    return min(max(replicas, spec.min_replicas), spec.max_replicas)


def refused_streams(before: int, after: int, seconds: float, service_seconds: float) -> float:
    """What refusals between two readings of the counter stand for, in streams: rate x mean service time.

    A counter that fell back belongs to a server that started anew.
    """
    if seconds <= 0:
        return 0.0
    return (after - before if after >= before else after) / seconds * service_seconds
