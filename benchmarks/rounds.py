"""Interleaved runs: every round gives each system the same fresh work in turn (A B A B ...)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks import common, limits
from benchmarks.lineup import Entry, Lineup
from benchmarks.works import Work

Key = tuple[str, str]  # work, system


@dataclass
class Played:
    """What came of the rounds.

    Attributes:
        rates: generated tokens/s of each round. counters: Lepton's, of the last round. peaks: MiB by system.
    """

    rates: dict[Key, list[float]] = field(default_factory=dict)
    counters: dict[str, dict[str, float]] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    limits: list[dict[str, float]] = field(default_factory=list)


def part(work: Work, first: int | None) -> Work:
    """The first requests of a work, or all of it."""
    return work if first is None else Work(work.name, work.prompts[:first], work.outputs[:first])


def play(
    lineup: Lineup, fresh: Callable[[int], Sequence[Work]], warm: Sequence[Work], rounds: int, threads: int
) -> Played:
    """Load, warm up, then the rounds; machine limits are measured at the end of each.

    Args:
        fresh: the works of a round, given its number from 1, always with the same names.
    """
    played = Played()
    with lineup.started(threads) as systems, limits.process(threads) as measuring:
        for system, entry in zip(systems, lineup.entries, strict=True):
            for work in warm:
                system.run(part(work, entry.first))
        for number in range(1, rounds + 1):
            for work in fresh(number):
                for system, entry in zip(systems, lineup.entries, strict=True):
                    given = part(work, entry.first)
                    seconds, counted = system.run(given)
                    played.rates.setdefault((work.name, system.name), []).append(given.generated / seconds)
                    if system.name == common.LEPTON:
                        played.counters[work.name] = counted
                    print(
                        f"round {number}: {work.name}, {system.name}: {given.generated / seconds:.1f} tok/s", flush=True
                    )
            played.limits.append(measuring.run(limits.NOTHING)[1])
        played.peaks = {system.name: system.peak_rss_mb() for system in systems}
    return played


def rows(played: Played, entries: Sequence[Entry], shape: str) -> list[common.Row]:
    """Medians of the rounds; ratios are medians of the rounds' ratios."""
    made = []
    versions = common.versions("torch", "transformers", "lepton-engine")
    for work in dict.fromkeys(work for work, _ in played.rates):
        for entry in entries:
            own, theirs = played.rates[work, common.LEPTON], played.rates[work, entry.name]
            ratio = common.median([ours / other for ours, other in zip(own, theirs, strict=True)])
            made.append(
                common.Row(
                    work,
                    entry.name,
                    f"{shape} {entry.weights}",
                    common.median(theirs),
                    "tok/s",
                    None if entry.name == common.LEPTON else ratio,
                    played.peaks[entry.name],
                    versions,
                )
            )
    return made
