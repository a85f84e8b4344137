"""How `lepton serve` treats connections and slow readers: flags, and what they become for server and engine."""

import argparse
from dataclasses import dataclass

from lepton_service.commands.arguments import positive_seconds, seconds, size
from lepton_service.options import ServerOptions

_DEFAULTS = ServerOptions()
MAX_UNREAD_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class FlowOptions:
    """Settings of connections and streams. Times in seconds.

    Attributes:
        keepalive_time, keepalive_timeout, min_ping_interval, max_connection_age: see `ServerOptions`.
        max_unread_bytes: of output that waits for one stream's reader; a stream with more is ended.
    """

    keepalive_time: float
    keepalive_timeout: float
    min_ping_interval: float
    max_connection_age: float | None
    max_unread_bytes: int


def add_flow_arguments(parser: argparse.ArgumentParser) -> None:
    """Keepalive, the age of connections, and what may wait for a slow reader."""
    group = parser.add_argument_group("connections")
    group.add_argument(
        "--keepalive-time",
        type=positive_seconds,
        default=_DEFAULTS.keepalive_time,
        metavar="S",
        help=f"ping a connection that has been silent for this long (default: {_DEFAULTS.keepalive_time:g})",
    )
    group.add_argument(
        "--keepalive-timeout",
        type=positive_seconds,
        default=_DEFAULTS.keepalive_timeout,
        metavar="S",
        help=f"end it when the answer takes longer than this (default: {_DEFAULTS.keepalive_timeout:g})",
    )
    group.add_argument(
        "--min-ping-interval",
        type=positive_seconds,
        default=_DEFAULTS.min_ping_interval,
        metavar="S",
        help=f"send clients away that ping more often than this (default: {_DEFAULTS.min_ping_interval:g})",
    )
    group.add_argument(
        "--max-connection-age",
        type=seconds,
        default=_DEFAULTS.max_connection_age or 0.0,
        metavar="S",
        help="ask clients to connect anew after this long, so that they find new pods; streams go on to their end "
        f"(0: never, default: {_DEFAULTS.max_connection_age or 0.0:g})",
    )
    group.add_argument(
        "--max-unread",
        type=size,
        default=MAX_UNREAD_BYTES,
        metavar="SIZE",
        help="end a stream whose reader leaves more output than this unread (default: 16MiB)",
    )


def flow_options(args: argparse.Namespace) -> FlowOptions:
    """The settings from `add_flow_arguments`."""
    return FlowOptions(
        keepalive_time=args.keepalive_time,
        keepalive_timeout=args.keepalive_timeout,
        min_ping_interval=args.min_ping_interval,
        max_connection_age=args.max_connection_age or None,
        max_unread_bytes=args.max_unread,
    )
