"""The picture of a scale-up: replicas, load and latency over time."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.plan import Record


@dataclass(frozen=True)
class Sample:
    """A model at a moment.

    Attributes:
        time: Unix time. desired: what the autoscaler wants. ready: pods that serve. streams: open on the clients' side.
    """

    time: float
    desired: int
    ready: int
    streams: int


def draw(samples: Sequence[Sample], records: Sequence[Record], target: int, file: Path) -> None:
    """Write the picture; its format is that of the file's suffix.

    Args:
        target: streams that one replica should have.

    Raises:
        ValueError: there are no samples, or matplotlib knows no such format.
    """
    if not samples:
        raise ValueError("no samples to draw")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    start = samples[0].time
    times = [sample.time - start for sample in samples]
    figure, (replicas, load, latency) = pyplot.subplots(3, 1, figsize=(10, 8), sharex=True)
    replicas.step(times, [s.desired for s in samples], where="post", color="tab:orange", label="wanted")
    replicas.step(times, [s.ready for s in samples], where="post", color="tab:blue", label="ready")
    replicas.set_ylabel("replicas")
    replicas.set_ylim(0, max(max(s.desired, s.ready) for s in samples) + 0.5)
    load.step(times, [s.streams for s in samples], where="post", color="tab:orange", label="open streams")
    ready = [s.ready * target for s in samples]
    load.step(times, ready, where="post", color="0.6", label=f"{target} a ready replica")
    load.set_ylabel("streams")
    began = sorted((r.began - start, r.first) for r in records if r.first is not None)
    latency.scatter([at for at, _ in began], [first for _, first in began], s=8, color="0.7", label="a stream")
    latency.plot(*moving([(at, first) for at, first in began if first is not None]), color="tab:orange", label="median")
    latency.set_ylabel("seconds to the first token")
    latency.set_xlabel("seconds")
    for axis in (replicas, load, latency):
        axis.legend(loc="upper right", frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)


def moving(points: Sequence[tuple[float, float]], window: float = 10.0) -> tuple[list[float], list[float]]:
    """The median of the points of each window of so many seconds, at the window's middle."""
    if not points:
        return [], []
    places: dict[int, list[float]] = {}
    for at, value in points:
        places.setdefault(int(at // window), []).append(value)
    return (
        [(place + 0.5) * window for place in sorted(places)],
        [statistics.median(places[place]) for place in sorted(places)],
    )
