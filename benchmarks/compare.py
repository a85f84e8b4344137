"""The body of `throughput`, `mixed` and `prefix`: works, systems and weights that differ, one table."""

import argparse
from collections.abc import Callable, Sequence

from benchmarks import common, limits, plots, rounds
from benchmarks.lineup import Lineup, line_up
from benchmarks.shapes import SHAPES
from benchmarks.works import Work

Works = Callable[[int, int, float], Sequence[Work]]  # vocabulary, seed, scale


def run(
    title: str,
    args: argparse.Namespace,
    shapes: Sequence[str],
    works: Works,
    adapt: Callable[[Lineup, str, str], None] | None = None,
) -> int:
    """Compare and print.

    Args:
        shapes: where --shapes says nothing. adapt: may change a line-up, given its shape and weights.
    """
    scale = 0.1 if args.quick else 1.0
    count = args.rounds or (1 if args.quick else 5)
    table: list[common.Row] = []
    notes: list[str] = [f"{args.threads} threads, medians of {count} rounds"]
    for shape in args.shapes or (["tiny"] if args.quick else shapes):
        vocab = SHAPES[shape].vocab_size
        for weights in args.weights:
            lineup = line_up(args, shape, weights)
            if adapt is not None:
                adapt(lineup, shape, weights)
            played = rounds.play(
                lineup,
                lambda seed, vocab=vocab: works(vocab, seed, scale),  # type: ignore[misc]
                works(vocab, 0, 0.05),
                count,
                args.threads,
            )
            table += rounds.rows(played, lineup.entries, shape)
            for name, counted in played.counters.items():
                values = ", ".join(f"{value:.0f} {what}" for what, value in counted.items())
                notes.append(f"{shape} {weights}, {name}: {values}")
            notes.append(f"{shape} {weights}: {limits.Measured(tuple(played.limits)).note()}")
            notes += [note for note in lineup.notes if note not in notes]
    common.report(title, table, args.json, notes)
    if args.plot is not None:
        plots.draw(title, table, args.plot)
    return 0
