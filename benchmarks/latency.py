"""One request alone: tokens per second of decoding, time to first token, and the share of the read bandwidth.

A prompt of 128 tokens with one token out gives the time to first token, another with 1 + N out the decode rate: N over
the difference. The share is that of the weights' bytes read a second in the bandwidth measured in the same round; the
KV cache (some per cent of them) is left out. Random weights, greedy, end-of-sequence ignored, systems interleaved.
"""

import random
import sys

from benchmarks import common, limits, plots
from benchmarks.lineup import add_options, bits, line_up
from benchmarks.shapes import SHAPES
from benchmarks.systems.process import SystemProcess
from benchmarks.works import Work

PROMPT, OUTPUT = 128, 128
DECODE, FIRST, SHARE = "decode", "time to first token", "share of read bandwidth"


def measure(
    system: SystemProcess, rng: random.Random, vocab_size: int, prompt: int, output: int
) -> tuple[float, float]:
    """Seconds to the first token, and tokens/s after it."""

    def seconds(count: int) -> float:
        tokens = tuple(rng.randrange(2, vocab_size) for _ in range(prompt))
        return system.run(Work("latency", (tokens,), (count,)))[0]

    first = seconds(1)
    return first, output / (seconds(1 + output) - first)


def main() -> int:
    parser = common.parser(__doc__ or "", plot=True)
    add_options(parser, "bf16,int8,int4", "135M,1B")
    args = parser.parse_args()
    rounds = args.rounds or (1 if args.quick else 5)
    prompt, output = (16, 16) if args.quick else (PROMPT, OUTPUT)
    table: list[common.Row] = []
    notes = [f"{args.threads} threads, medians of {rounds} rounds, prompts of {prompt}, {output} decoded"]
    versions = common.versions("torch", "transformers", "lepton-engine")
    for name in args.shapes or (["tiny"] if args.quick else ["135M", "1B"]):
        shape = SHAPES[name]
        for weights in args.weights:
            lineup = line_up(args, name, weights, batched=False)
            found: dict[str, list[tuple[float, float]]] = {entry.name: [] for entry in lineup.entries}
            machine = []
            with lineup.started(args.threads) as systems, limits.process(args.threads) as measuring:
                for number in range(rounds + 1):
                    for system in systems:
                        rng = random.Random(number)
                        first, rate = measure(system, rng, shape.vocab_size, prompt, output if number else 4)
                        if number:  # Round 0 warms up.
                            found[system.name].append((first, rate))
                            print(f"round {number}: {name} {weights}, {system.name}: {rate:.1f} tok/s", flush=True)
                    if number:
                        machine.append(measuring.run(limits.NOTHING)[1])
                peaks = {system.name: system.peak_rss_mb() for system in systems}
            own = found[common.LEPTON]
            for entry in lineup.entries:
                theirs = found[entry.name]
                gigabytes = shape.read_bytes(*bits(entry.weights, shape)) / 1e9
                shares = [
                    100 * rate * gigabytes / limit["read GB/s"]
                    for (_, rate), limit in zip(theirs, machine, strict=True)
                ]
                values = {
                    DECODE: (common.median([rate for _, rate in theirs]), "tok/s"),
                    FIRST: (1000 * common.median([first for first, _ in theirs]), "ms"),
                    SHARE: (common.median(shares), "%"),
                }
                pairs = list(zip(own, theirs, strict=True))
                ratios = {
                    DECODE: common.median([ours[1] / other[1] for ours, other in pairs]),
                    FIRST: common.median([other[0] / ours[0] for ours, other in pairs]),
                }
                for work, (value, unit) in values.items():
                    ratio = None if entry.name == common.LEPTON else ratios.get(work)
                    label = f"{name} {entry.weights}"
                    work_name = f"{name} {weights} {work}"
                    row = common.Row(work_name, entry.name, label, value, unit, ratio, peaks[entry.name], versions)
                    table.append(row)
            notes.append(f"{name} {weights}: {limits.Measured(tuple(machine)).note()}")
            notes += [note for note in lineup.notes if note not in notes]
    table.sort(key=lambda row: [DECODE, SHARE, FIRST].index(row.work.split(" ", 2)[2]))
    notes.append("lepton / it: above 1 is better for Lepton, for times too")
    common.report("Latency", table, args.json, notes)
    if args.plot is not None:
        plots.draw("Latency", table, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
