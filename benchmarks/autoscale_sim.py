"""The autoscaler's rule on made-up loads, next to Knative's and KubeAI's.

A queue in front of pods with `slots` each; Poisson arrivals, exponential service times, pods that take a while to
start and drain before they end. Pods are charged from their start to their end. A request is late when it waited for
more than 5 s. Ours is the shipped decider (`lepton_operator.autoscale`), fed once a second. The peers' rules are
written here from their published definitions; none of their code runs:

- Knative (docs: "Autoscaling", "Configuring the autoscaler"): every 2 s; concurrency, queued requests included,
  averaged over 60 s (stable) and 6 s (panic); the target is 70 % of the slots by default; panic when the short average
  asks for at least twice the ready pods, for 60 s, without going down; at most x1000 up and /2 down a tick.
- KubeAI (docs: "Autoscaling"): every 10 s; active requests averaged over 10 minutes, over a target; down after 3
  decisions in a row that say so.

    python -m benchmarks.autoscale_sim --plot autoscaling.png
"""

import itertools
import math
import random
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks import common
from lepton_operator.api.spec import Autoscaling
from lepton_operator.autoscale import Autoscaler, Decision, PodLoad, Sample

SLOTS, SERVICE, STARTUP, LATE = 8, 10.0, 60, 5
MAX_PODS = 2000
HOUR = 3600
SEEDS = 20


class Rule(Protocol):
    """Decides on the number of pods, once a second."""

    def decide(self, now: int, view: "View") -> int:
        """Pods that there should be."""


@dataclass(frozen=True)
class View:
    """What a rule can see: requests running and waiting, arrivals of the last second, ready pods, pods at all."""

    running: int
    waiting: int
    arrived: int
    ready: int
    pods: int


class Lepton:
    """The shipped rule with its defaults but for the target.

    Attributes:
        last: its last decision.
    """

    def __init__(self, target: float, **spec: int) -> None:
        self.spec = Autoscaling(max_replicas=MAX_PODS, target_streams=round(target), **spec)
        self.last: Decision | None = None
        self._rule = Autoscaler(self.spec, 1, 0.0)

    def decide(self, now: int, view: View) -> int:
        load = PodLoad(view.running + view.waiting, arrivals=view.arrived, service=SERVICE, waiting=view.waiting)
        self.last = self._rule.decide(Sample(float(now), [load], 0, view.ready))
        return self.last.desired


class Mean:
    """A mean over the last seconds."""

    def __init__(self, seconds: int) -> None:
        self._values: deque[float] = deque(maxlen=seconds)
        self._sum = 0.0

    def add(self, value: float) -> float:
        if len(self._values) == self._values.maxlen:
            self._sum -= self._values[0]
        self._values.append(value)
        self._sum += value
        return self._sum / len(self._values)


class Knative:
    """Knative's pod autoscaler, from its documentation."""

    def __init__(self, target: float) -> None:
        self._target = target
        self._stable, self._panic = Mean(60), Mean(6)
        self._panic_until, self._panic_pods, self._desired = -1, 0, 1

    def decide(self, now: int, view: View) -> int:
        load = view.running + view.waiting
        stable, panic = self._stable.add(load), self._panic.add(load)
        if now % 2:
            return self._desired
        ready = max(1, view.ready)
        up, down = math.ceil(1000 * ready), math.floor(ready / 2)
        want_stable = max(down, min(up, math.ceil(stable / self._target)))
        want_panic = max(down, min(up, math.ceil(panic / self._target)))
        if math.ceil(panic / self._target) / ready >= 2:
            self._panic_until = now + 60
        if now < self._panic_until:
            self._panic_pods = max(self._panic_pods, want_panic, view.pods if not self._panic_pods else 0)
            self._desired = self._panic_pods
        else:
            self._panic_pods = 0
            self._desired = want_stable
        self._desired = max(1, self._desired)
        return self._desired


class KubeAI:
    """KubeAI's autoscaler, from its documentation."""

    def __init__(self, target: float) -> None:
        self._target = target
        self._mean = Mean(60)  # of samples ten seconds apart: ten minutes
        self._down, self._desired = 0, 1

    def decide(self, now: int, view: View) -> int:
        if now % 10:
            return self._desired
        wanted = max(1, math.ceil(self._mean.add(view.running + view.waiting) / self._target))
        if wanted >= self._desired:
            self._down, self._desired = 0, wanted
            return self._desired
        self._down += 1
        if self._down > 3:
            self._desired = wanted
        return self._desired


@dataclass
class Run:
    """What came of a load under a rule. Series have a value a second."""

    late: int = 0
    served: int = 0
    pod_seconds: int = 0
    desired: list[int] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    load: list[int] = field(default_factory=list)

    @property
    def gpu_hours(self) -> float:
        return self.pod_seconds / HOUR

    def reversals(self, since: int) -> int:
        """Changes of direction of `desired` after the warm-up."""
        last, count = 0, 0
        series = self.desired[since:]
        for before, after in itertools.pairwise(series):
            if after != before:
                direction = 1 if after > before else -1
                count += last not in (0, direction)
                last = direction
        return count


def simulate(load: Callable[[int], float], seconds: int, rule: Rule, seed: int, startup: int = STARTUP) -> Run:
    """Plays a load: mean concurrent requests by second."""
    rng = random.Random(seed)
    run = Run()
    ready = max(1, math.ceil(load(0) / SLOTS))
    starting: deque[int] = deque()  # when each becomes ready
    draining: list[int] = []  # streams of each
    running = min(round(load(0)), ready * SLOTS)
    queue: deque[list[int]] = deque()  # [when they arrived, how many]
    waiting = 0
    done = 1 - math.exp(-1 / SERVICE)
    for now in range(seconds):
        while starting and starting[0] <= now:
            starting.popleft()
            ready += 1
        finished = _binomial(rng, running, done)
        running -= finished
        run.served += finished
        draining = [left for streams in draining if (left := streams - _binomial(rng, streams, done)) > 0]
        arrived = _poisson(rng, load(now) / SERVICE)
        if arrived:
            queue.append([now, arrived])
            waiting += arrived
        room = ready * SLOTS - running
        while room > 0 and queue:
            when, count = queue[0]
            taken = min(room, count)
            if now - when > LATE:
                run.late += taken
            room -= taken
            running += taken
            waiting -= taken
            if taken == count:
                queue.popleft()
            else:
                queue[0][1] -= taken
        desired = min(MAX_PODS, rule.decide(now, View(running, waiting, arrived, ready, ready + len(starting))))
        for _ in range(desired - ready - len(starting)):
            starting.append(now + startup)
        for _ in range(ready + len(starting) - desired):
            if starting:
                starting.pop()
                continue
            streams = running // ready
            running -= streams
            ready -= 1
            draining.append(streams)
        run.pod_seconds += ready + len(starting) + len(draining)
        run.desired.append(desired)
        run.ready.append(ready)
        run.load.append(running + waiting)
    run.late += sum(count for when, count in queue if seconds - when > LATE)
    return run


def _poisson(rng: random.Random, mean: float) -> int:
    if mean > 50:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count


def _binomial(rng: random.Random, count: int, share: float) -> int:
    if count > 60:
        drawn = round(rng.gauss(count * share, math.sqrt(count * share * (1 - share))))
        return min(count, max(0, drawn))
    return sum(rng.random() < share for _ in range(count))


Load = Callable[[int], float]


def step(now: int) -> float:
    """20 concurrent requests, and from ten minutes on 200."""
    return 20 if now < 600 else 200


def ramp(now: int) -> float:
    """From 20 to 400 in half an hour, and back."""
    return 20 + 380 * max(0.0, 1 - abs(now - 1800) / 1800)


def sinusoid(now: int) -> float:
    """Between 20 and 220, a period of 40 minutes."""
    return 120 - 100 * math.cos(2 * math.pi * now / 2400)


def bursts(now: int) -> float:
    """40, and every ten minutes one minute of 300."""
    return 300 if now % 600 >= 540 else 40


def thousands(now: int) -> float:
    """8,000 concurrent requests, for half an hour 14,000: a thousand pods and more."""
    return 14_000 if 1200 <= now < 3000 else 8_000


SHAPES: dict[str, Load] = {
    "step": step,
    "ramp": ramp,
    "sinusoid": sinusoid,
    "bursts": bursts,
    "thousands of pods": thousands,
}
RULES: dict[str, tuple[Callable[[float], Rule], float]] = {
    common.LEPTON: (Lepton, 6),
    "knative": (Knative, 0.7 * SLOTS),
    "kubeai": (KubeAI, 6),
}
"""Rules, and the target for the pictures: Knative's is its default share of the slots; the others have none of their
own that knows the slots (Lepton's default of 16 streams and KubeAI's of 100 requests suit larger pods)."""
TARGETS = (3, 4, 5, 5.6, 6, 7, 8, 10, 12)


@dataclass(frozen=True)
class Point:
    """A rule at a target: means over the seeds."""

    rule: str
    target: float
    late: float
    gpu_hours: float

    def dominates(self, other: "Point") -> bool:
        """Whether it is no worse in both and better in one."""
        no_worse = self.late <= other.late and self.gpu_hours <= other.gpu_hours
        return no_worse and (self.late, self.gpu_hours) != (other.late, other.gpu_hours)


def sweep(seeds: int, targets: Sequence[float] = TARGETS) -> list[Point]:
    """The case 20 -> 200 for an hour: every rule at every target."""
    points = []
    for name, (make, _) in RULES.items():
        for target in targets:
            if name == common.LEPTON and target != int(target):
                continue  # targetStreams is a whole number
            runs = [simulate(step, HOUR, make(target), seed) for seed in range(seeds)]
            late = sum(run.late for run in runs) / seeds
            points.append(Point(name, target, late, sum(run.gpu_hours for run in runs) / seeds))
    return points


def front(points: Sequence[Point]) -> list[Point]:
    """The points of one rule that none of its own dominates."""
    return [point for point in points if not any(other.dominates(point) for other in points)]


def dominated(points: Sequence[Point]) -> list[tuple[Point, Point]]:
    """Points of Lepton's front with a peer's point that dominates them."""
    own = front([point for point in points if point.rule == common.LEPTON])
    peers = [point for point in points if point.rule != common.LEPTON]
    return [(point, peer) for point in own for peer in peers if peer.dominates(point)]


FLAPPING: dict[str, Load] = {
    **{f"Poisson, {mean}": (lambda now, mean=mean: mean) for mean in (5, 20, 50, 200, 1000)},  # type: ignore[misc]
    **{
        f"on/off {low}/{high}, {period} s": (
            lambda now, low=low, high=high, period=period: high if now % period < period / 2 else low  # type: ignore[misc]
        )
        for low, high in ((10, 60), (0, 100), (50, 400))
        for period in (60, 300)
    },
}
WARM_UP = 1800


def reversals(load: Load, make: Callable[[float], Rule], target: float, seeds: int, hours: float = 3) -> list[float]:
    """Changes of direction an hour after the warm-up, by seed."""
    seconds = round(hours * HOUR)
    counted = (seconds - WARM_UP) / HOUR
    return [simulate(load, seconds, make(target), seed).reversals(WARM_UP) / counted for seed in range(seeds)]


def plot(points: Sequence[Point], file: Path) -> None:
    """Load, desired and ready replicas, late requests and GPU-hours by shape; the front of the step."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(SHAPES) + 1, len(RULES), figsize=(15, 3.2 * (len(SHAPES) + 1)), squeeze=False)
    for row, (shape, load) in enumerate(SHAPES.items()):
        for column, (name, (make, target)) in enumerate(RULES.items()):
            run = simulate(load, HOUR, make(target), 0)
            axis = axes[row][column]
            minutes = [second / 60 for second in range(HOUR)]
            axis.plot(minutes, [value / SLOTS for value in run.load], color="0.75", linewidth=0.8, label="load / slots")
            axis.plot(minutes, run.desired, color="tab:orange", linewidth=1, label="desired")
            axis.plot(minutes, run.ready, color="tab:blue", linewidth=1, label="ready")
            most = max(load(second) for second in range(HOUR)) / SLOTS
            axis.set_ylim(0, 1.05 * max(*run.desired, *run.ready, 1.3 * most))
            axis.set_title(
                f"{shape}, {name} ({target:g}): {run.late:,} late, {run.gpu_hours:.1f} GPU-hours", fontsize=9
            )
            axis.set_xlabel("minutes")
            if row == column == 0:
                axis.legend(fontsize=7)
    for axis in axes[-1][1:]:
        axis.remove()
    axis = figure.add_subplot(len(SHAPES) + 1, 1, len(SHAPES) + 1)
    axes[-1][0].remove()
    for name in RULES:
        own = sorted((point for point in points if point.rule == name), key=lambda point: point.target)
        axis.plot([p.gpu_hours for p in own], [max(p.late, 1) for p in own], "o-", label=name)
        for point in own:
            axis.annotate(f"{point.target:g}", (point.gpu_hours, max(point.late, 1)), fontsize=7)
    axis.set_yscale("log")
    axis.set_xlabel("GPU-hours")
    axis.set_ylabel(f"requests that waited over {LATE} s")
    axis.set_title("20 -> 200 concurrent: every target")
    axis.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> int:
    """Prints the figures; 1 where Lepton's rule is dominated, or flaps."""
    options = common.parser(__doc__ or "")
    options.add_argument("--plot", type=Path, metavar="FILE", help="draw the runs and the front there")
    args = options.parse_args()
    seeds = 3 if args.quick else SEEDS
    rows = []
    points = sweep(seeds)
    for point in points:
        work = f"20 -> 200, target {point.target:g}"
        rows.append(common.Row(f"{work}: late", point.rule, f"{seeds} seeds", point.late, "requests"))
        rows.append(common.Row(f"{work}: cost", point.rule, f"{seeds} seeds", point.gpu_hours, "GPU-hours"))
    for shape, load in SHAPES.items():
        for name, (make, target) in RULES.items():
            runs = [simulate(load, HOUR, make(target), seed) for seed in range(1 if args.quick else 3)]
            late, cost = sum(r.late for r in runs) / len(runs), sum(r.gpu_hours for r in runs) / len(runs)
            rows.append(common.Row(f"{shape}: late", name, f"target {target:g}", late, "requests"))
            rows.append(common.Row(f"{shape}: cost", name, f"target {target:g}", cost, "GPU-hours"))
    worst = 0.0
    for work, load in FLAPPING.items():
        for name, (make, target) in RULES.items():
            if name != common.LEPTON and args.quick:
                continue
            found = reversals(load, make, target, seeds if name == common.LEPTON else 3, 1.5 if args.quick else 3)
            mean = sum(found) / len(found)
            worst = max(worst, mean) if name == common.LEPTON else worst
            rows.append(common.Row(f"{work}: reversals", name, f"most {max(found):.1f}", mean, "an hour"))
    beaten = dominated(points)
    notes = [
        f"service time exp({SERVICE:g} s), {SLOTS} slots a pod, start-up {STARTUP} s, late = waited over {LATE} s",
        "Knative's and KubeAI's rules are written from their published definitions; none of their code runs.",
        *(f"dominated: target {own.target:g} by {peer.rule} at {peer.target:g}" for own, peer in beaten),
        f"Lepton: at most {worst:.2f} reversals an hour, the mean over {seeds} seeds, on any load",
    ]
    common.report("Autoscaling, simulated", rows, args.json, notes)
    if args.plot is not None:
        plot(points, args.plot)
    return int(bool(beaten) or worst > 1)


if __name__ == "__main__":
    sys.exit(main())
