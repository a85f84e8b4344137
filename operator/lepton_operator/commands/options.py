"""Options of `lepton operator`."""

import argparse
import math
import os
import socket
from pathlib import Path

from lepton_operator.settings import LeaseSettings, PodSettings, RunSettings


def add_pod_arguments(parser: argparse.ArgumentParser) -> None:
    """What pods are given where the spec says nothing."""
    group = parser.add_argument_group("pods")
    group.add_argument("--server-image", metavar="IMAGE", default=PodSettings.server_image, help="image of the server")
    group.add_argument(
        "--server-arg", metavar="ARG", action="append", default=[], help="argument of `lepton serve` in all pods"
    )
    group.add_argument(
        "--cluster-domain", metavar="NAME", default="", help="suffix of Service names in status.endpoint"
    )
    group.add_argument(
        "--operator-namespace",
        metavar="NAME",
        default=os.environ.get("POD_NAMESPACE", PodSettings.operator_namespace),
        help="namespace of the operator (default: $POD_NAMESPACE, or lepton-system)",
    )
    group.add_argument(
        "--operator-label",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        type=label,
        help="label of the operator's pods (default: app.kubernetes.io/name=lepton-operator)",
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """How the operator runs."""
    add_pod_arguments(parser)
    group = parser.add_argument_group("cluster")
    group.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help="default: in-cluster, $KUBECONFIG, ~/.kube/config"
    )
    group.add_argument("--context", metavar="NAME", help="context of the kubeconfig (default: its current one)")
    group.add_argument(
        "--namespace",
        metavar="NAME",
        action="append",
        default=[],
        help="only this namespace; may be repeated (default: all)",
    )
    group = parser.add_argument_group("leader election")
    group.add_argument("--no-leader-election", action="store_true", help="lead without a Lease: for a single operator")
    group.add_argument("--lease-name", metavar="NAME", default=LeaseSettings.name, help="(default: %(default)s)")
    group.add_argument(
        "--identity",
        metavar="NAME",
        default=os.environ.get("POD_NAME") or socket.gethostname(),
        help="name in the Lease; a random part is added (default: $POD_NAME, or the host's name)",
    )
    group.add_argument(
        "--lease-duration", type=positive, metavar="S", default=LeaseSettings.duration, help="(default: 15)"
    )
    group.add_argument(
        "--renew-deadline", type=positive, metavar="S", default=LeaseSettings.renew_deadline, help="(default: 10)"
    )
    group.add_argument(
        "--retry-period", type=positive, metavar="S", default=LeaseSettings.retry_period, help="(default: 2)"
    )
    group = parser.add_argument_group("work")
    group.add_argument(
        "--workers", type=whole, metavar="N", default=RunSettings.workers, help="models at once (default: %(default)s)"
    )
    group.add_argument(
        "--resync-seconds",
        type=positive,
        metavar="S",
        default=RunSettings.resync,
        help="every model is looked at this often",
    )
    group.add_argument(
        "--stats-interval", type=positive, metavar="S", default=RunSettings.stats_interval, help="(default: 1)"
    )
    group.add_argument("--metrics-host", default=RunSettings.metrics_host, help="(default: %(default)s)")
    group.add_argument(
        "--metrics-port",
        type=port,
        default=RunSettings.metrics_port,
        help="/metrics, /healthz, /readyz; 0 for a free one",
    )
    group.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    group.add_argument("--log-format", default="json", choices=["json", "text"])


def pod_settings(args: argparse.Namespace) -> PodSettings:
    """The settings of pods from `add_pod_arguments`."""
    labels = dict(args.operator_label) or PodSettings().operator_labels
    return PodSettings(args.server_image, tuple(args.server_arg), args.operator_namespace, labels, args.cluster_domain)


def run_settings(args: argparse.Namespace) -> RunSettings:
    """All settings from `add_run_arguments`.

    Raises:
        ValueError: times of the Lease that do not go together.
    """
    lease = LeaseSettings(args.lease_name, args.lease_duration, args.renew_deadline, args.retry_period)
    lease.check()
    return RunSettings(
        pods=pod_settings(args),
        lease=None if args.no_leader_election else lease,
        identity=args.identity,
        namespaces=tuple(dict.fromkeys(args.namespace)),
        workers=args.workers,
        resync=args.resync_seconds,
        stats_interval=args.stats_interval,
        metrics_host=args.metrics_host,
        metrics_port=args.metrics_port,
    )


def label(text: str) -> tuple[str, str]:
    """A label from KEY=VALUE."""
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def positive(text: str) -> float:
    """A time above 0 seconds."""
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a time above 0 seconds")
    return value


def whole(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def port(text: str) -> int:
    """A TCP port; 0 takes a free one."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, allowed is 0 to 65535")
    return int(text)
