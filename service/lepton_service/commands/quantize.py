"""`lepton quantize`: a checkpoint with smaller weights."""

import argparse
from collections.abc import Callable

from lepton_service.commands.offline import add_folder_arguments, run_offline

HELP = "write a quantised copy of a checkpoint"
DESCRIPTION = """Write a quantised copy of a checkpoint, in the format of compressed-tensors.

The copy loads like any other, here and in transformers and vLLM. DST appears when it is complete: nothing is left of a
run that fails. The embedding stays as it is, and so does the output layer unless +head asks for it."""
EPILOG = """schemes:
  int8          8 bits, a scale per output channel
  int8-w8a8     the same, and inputs are quantised per token while computing
  int4-g32, int4-g64, int4-g128, each with -asym or not
                4 bits, a scale per group of inputs, and with -asym a zero point
  fp8           e4m3, a scale per output channel
  fp8-w8a8      the same, and inputs are quantised per token (CUDA, capability 8.9 or more)
  any of these with +head: the output layer in int8 too

examples:
  lepton quantize ~/models/llama-1b ~/models/llama-1b-int8
  lepton quantize ~/models/llama-1b ~/models/llama-1b-int4 --scheme int4-g64+head"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `lepton quantize`."""
    add_folder_arguments(parser)
    parser.add_argument("--scheme", default="int8", metavar="SCHEME", help="see below (default: int8)")
    parser.add_argument(
        "--no-search",
        action="store_true",
        help="int4: take the range of each group as it is, not the one of the least squared error; ten times faster",
    )


def run(args: argparse.Namespace) -> int:
    """Quantises; see `run_offline`."""

    def work(progress: Callable[[int, int, str], None]) -> str:
        from lepton_engine.offline.quantize import quantize_checkpoint
        from lepton_engine.quantization.scheme import parse_scheme

        scheme = parse_scheme(args.scheme, "scheme")
        size = quantize_checkpoint(args.source, args.target, scheme, search=not args.no_search, progress=progress)
        return f"{args.target}: {scheme.name}, {size / 1e6:.1f} MB of weights"

    return run_offline("quantize", args.quiet, work)
