"""`lepton prune`: a checkpoint with zeros among its weights."""

import argparse
from collections.abc import Callable

from lepton_service.commands.offline import add_folder_arguments, run_offline

HELP = "write a pruned copy of a checkpoint"
DESCRIPTION = """Write a copy of a checkpoint in which the weights of least magnitude are zero.

Pruned are the weights of the linear layers, each by itself; embedding and output layer stay whole. DST appears when it
is complete: nothing is left of a run that fails. A pruned checkpoint can be quantised (`lepton quantize`)."""
EPILOG = """examples:
  lepton prune ~/models/llama-1b ~/models/llama-1b-sparse                  2:4, which GPUs have kernels for
  lepton prune ~/models/llama-1b ~/models/llama-1b-30 --sparsity 30%"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `lepton prune`."""
    add_folder_arguments(parser)
    parser.add_argument(
        "--sparsity",
        default="2:4",
        metavar="S",
        help="2:4 (two of every four neighbours) or a share of each layer's weights such as 0.3 or 30%% (default: 2:4)",
    )


def run(args: argparse.Namespace) -> int:
    """Prunes; see `run_offline`."""

    def work(progress: Callable[[int, int, str], None]) -> str:
        from lepton_engine.offline.prune import parse_sparsity, prune_checkpoint

        share = prune_checkpoint(args.source, args.target, parse_sparsity(args.sparsity), progress=progress)
        return f"{args.target}: {share:.1%} of the linear layers' weights are zero"

    return run_offline("prune", args.quiet, work)
