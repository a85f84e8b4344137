"""Settings of the processes of a server."""

import argparse
from dataclasses import dataclass

from lepton_engine.process.child import STEP_TIMEOUT_SECONDS
from lepton_service.commands.arguments import count, positive_seconds

MOST = 64


@dataclass(frozen=True)
class FrontEndOptions:
    """Of how many front ends there are, and when their engine is taken for hung.

    Attributes:
        count: front-end processes. step_timeout: seconds without progress after which the engine is started again.
    """

    count: int = 1
    step_timeout: float = STEP_TIMEOUT_SECONDS


def add_front_end_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the processes."""
    group = parser.add_argument_group("processes")
    group.add_argument(
        "--frontends",
        type=count,
        default=1,
        metavar="N",
        help=f"processes that share the inference port and the engine (default: 1, at most {MOST})",
    )
    group.add_argument(
        "--step-timeout",
        type=positive_seconds,
        default=STEP_TIMEOUT_SECONDS,
        metavar="S",
        help="start the engine again when a step makes no progress for this long; must exceed the longest step, which "
        f"on a CPU is that of a full prefill (default: {STEP_TIMEOUT_SECONDS:g})",
    )


def front_end_options(args: argparse.Namespace) -> FrontEndOptions:
    """The settings from the command line.

    Raises:
        ValueError: a number out of range.
    """
    if not 1 <= args.frontends <= MOST:
        raise ValueError(f"--frontends: {args.frontends} is out of range, allowed is 1 to {MOST}")
    return FrontEndOptions(args.frontends, args.step_timeout)
