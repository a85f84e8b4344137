"""One step of load up and down under the shipped decider, second by second: what it saw, and what it decided, and why.

The simulation is that of `benchmarks.autoscale_sim`: 20 concurrent requests, from the fifth minute on 200, from the
20th on 20 again; pods of 8 slots that take 15 s to start, requests of 10 s in the mean, `targetStreams` 6 and all other
fields as they are by default.

    python -m benchmarks.autoscale_step --plot docs/autoscaling-step.png
"""

import argparse
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.autoscale_sim import LATE, Lepton, Mean, Run, View, simulate
from lepton_operator.api.spec import Autoscaling
from lepton_operator.api.status import ScalingMode

UP, DOWN, END = 300, 1200, 2400
TARGET, STARTUP = 6, 15


def load(now: int) -> float:
    """Mean concurrent requests."""
    return 200 if UP <= now < DOWN else 20


@dataclass(frozen=True)
class Second:
    """One second: streams running and waiting, their two means, and the decision."""

    waiting: int
    load: int
    stable: float
    panic: float
    panicking: bool
    desired: int
    reason: str


class Watched:
    """The shipped rule, with notes of every second."""

    def __init__(self) -> None:
        self.rule = Lepton(TARGET)
        self.seconds: list[Second] = []
        self._means = Mean(self.rule.spec.stable_seconds), Mean(self.rule.spec.panic_seconds)

    def decide(self, now: int, view: View) -> int:
        desired = self.rule.decide(now, view)
        streams = view.running + view.waiting
        stable, panic = (mean.add(streams) for mean in self._means)
        last = self.rule.last
        assert last is not None
        panicking = last.mode is ScalingMode.PANIC
        self.seconds.append(Second(view.waiting, streams, stable, panic, panicking, desired, last.reason))
        return desired


def play(seed: int = 0) -> tuple[Watched, Run]:
    """The notes, and what came of it."""
    watched = Watched()
    return watched, simulate(load, END, watched, seed, STARTUP)


def changes(seconds: list[Second]) -> list[tuple[int, int, int, str]]:
    """When `desired` changed: the second, before, after, why."""
    found = []
    for now, (before, after) in enumerate(itertools.pairwise(seconds), start=1):
        if after.desired != before.desired:
            found.append((now, before.desired, after.desired, after.reason))
    return found


def story(watched: Watched, run: Run) -> str:
    """Every change of `desired` with its reason, a line each, and what came of it."""
    lines = [
        f"{now // 60:2}:{now % 60:02}  {before:3} -> {after:3}  {why}"
        for now, before, after, why in changes(watched.seconds)
    ]
    ended = f"{run.late} of {run.served:,} requests waited for over {LATE} s; {run.gpu_hours:.1f} pod-hours"
    return "\n".join([*lines, ended])


def plot(watched: Watched, run: Run, file: Path) -> None:
    """Replicas and what they follow above; below, who waits."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    seconds, spec = watched.seconds, watched.rule.spec
    minutes = [now / 60 for now in range(len(seconds))]
    figure, (above, below) = pyplot.subplots(2, 1, figsize=(11, 7), sharex=True, height_ratios=(3, 1))
    shades = {"step": "mid", "alpha": 0.15, "color": "tab:red", "linewidth": 0}
    most = 1.08 * max(second.desired for second in seconds)
    above.fill_between(minutes, 0, most, where=[s.panicking for s in seconds], label="mode Panic", **shades)
    above.plot(minutes, [s.load / TARGET for s in seconds], color="0.8", linewidth=0.8, label="load / targetStreams")
    stable, panic = (f"its mean of {value} s ({name})" for value, name in _windows(spec))
    above.plot(minutes, [s.panic / TARGET for s in seconds], color="tab:red", linewidth=0.8, label=panic)
    above.plot(minutes, [s.stable / TARGET for s in seconds], color="tab:green", linewidth=1.2, label=stable)
    above.step(minutes, [s.desired for s in seconds], where="post", color="tab:orange", linewidth=2, label="desired")
    above.step(minutes, run.ready, where="post", color="tab:blue", linewidth=1.2, label="ready pods")
    above.set_ylim(0, most)
    above.set_ylabel("replicas")
    above.legend(fontsize=8)
    above.set_title(f"20 -> 200 -> 20 concurrent requests; targetStreams {TARGET}, pods start in {STARTUP} s")
    below.fill_between(minutes, 0, [s.waiting for s in seconds], color="0.7", linewidth=0)
    below.set_ylabel("requests waiting")
    below.set_xlabel("minutes")
    below.set_ylim(0)
    for axis in (above, below):
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0)
    figure.tight_layout()
    figure.savefig(file, dpi=100)
    pyplot.close(figure)


def _windows(spec: Autoscaling) -> tuple[tuple[int, str], tuple[int, str]]:
    return (spec.stable_seconds, "stableSeconds"), (spec.panic_seconds, "panicSeconds")


def main() -> int:
    """Prints every change of `desired`, with its reason."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--plot", type=Path, metavar="FILE", help="draw it there (.png, .svg, .pdf)")
    args = made.parse_args()
    watched, run = play()
    print(story(watched, run))
    if args.plot is not None:
        plot(watched, run, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
