"""Which requests `lepton serve` lets in: flags, and what they become for the engine, which counts them."""

import argparse
from pathlib import Path
from typing import Any

from lepton_service.commands.arguments import count, positive_seconds


def add_admission_arguments(parser: argparse.ArgumentParser) -> None:
    """The bounds of the queue and the limits of tenants; docs/admission.md says what is refused when."""
    group = parser.add_argument_group("admission")
    group.add_argument(
        "--max-queued-requests", type=count, metavar="N", help="requests that wait at most, 0 for none (default: all)"
    )
    group.add_argument(
        "--max-queued-tokens", type=count, metavar="N", help="prompt tokens that wait at most (default: all)"
    )
    group.add_argument(
        "--max-queue-time",
        type=positive_seconds,
        metavar="S",
        help="refuse a request that has not begun to run after this long (default: it waits)",
    )
    group.add_argument(
        "--tenant-limits",
        type=Path,
        metavar="FILE",
        help="limits of each tenant (TOML, read again when it changes; default: none)",
    )


def admission_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of AsyncLeptonEngine from `add_admission_arguments`.

    Raises:
        ValueError: the file of limits cannot be used.
    """
    if args.tenant_limits is not None:
        from lepton_engine.tenant_limits import read_limits

        read_limits(args.tenant_limits)
    return {
        "max_queued_requests": args.max_queued_requests,
        "max_queued_tokens": args.max_queued_tokens,
        "max_queue_time": args.max_queue_time,
        "tenant_limits": args.tenant_limits,
    }
