"""`lepton operator`: LeptonModels become pods. Also prints the CRD, and what a manifest would become."""

import argparse
import sys
from pathlib import Path
from typing import Any

from lepton_operator.api.base import GROUP

HELP = "run the Kubernetes operator, print its CRD, plan a manifest"
DESCRIPTION = """Run the operator: LeptonModels become Deployments, Services and the rest, scaled by their load.

In a cluster it uses its ServiceAccount; elsewhere $KUBECONFIG, --kubeconfig or ~/.kube/config."""
EPILOG = """examples:
  lepton operator crd | kubectl apply --server-side -f -
  lepton operator plan model.yaml           what a manifest would become, without a cluster
  lepton operator run --kubeconfig ~/.kube/config --no-leader-election"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `lepton operator`."""
    from lepton_operator.commands.options import add_pod_arguments, add_run_arguments

    add_run_arguments(parser)
    subparsers = parser.add_subparsers(dest="action", metavar="ACTION", title="instead of running")
    subparsers.add_parser("crd", help="print the CustomResourceDefinition")
    plan = subparsers.add_parser("plan", help="print the objects that a manifest would become, without a cluster")
    plan.add_argument("file", type=Path, help="YAML file with LeptonModels")
    add_pod_arguments(plan)
    _inherit_defaults(plan)
    rbac = subparsers.add_parser("rbac", help="print the rules that the operator needs")
    rbac.add_argument("--namespaced", action="store_true", help="those of a Role, where it runs by namespaces")
    running = subparsers.add_parser("run", help="run the operator (the default)")
    add_run_arguments(running)
    _inherit_defaults(running)


def _inherit_defaults(parser: argparse.ArgumentParser) -> None:
    """What was given before the action stays, unless it is given again after it."""
    for action in list(parser._actions):
        if action.dest not in ("help", "file"):
            if action.help is not None:
                action.help = action.help.replace("%(default)s", str(action.default))
            action.default = argparse.SUPPRESS


def run(args: argparse.Namespace) -> int:
    """Carries it out.

    Returns:
        0 for success, 1 for a failure that was explained on stderr.
    """
    match args.action:
        case "crd":
            return _print_crd()
        case "plan":
            return _plan(args)
        case "rbac":
            return _print_rules(args.namespaced)
        case _:
            from lepton_operator.commands.run import run as run_operator

            return run_operator(args)


def _print_crd() -> int:
    from lepton_operator.crd import crd
    from lepton_operator.yaml_text import dump

    sys.stdout.write(dump([crd()]))
    return 0


def _readable(made: dict[str, Any]) -> dict[str, Any]:
    """A manifest without the operator's own notes."""
    annotations = made["metadata"].pop("annotations", {})
    shown = {key: value for key, value in annotations.items() if not key.startswith(f"{GROUP}/")}
    if shown:
        made["metadata"]["annotations"] = shown
    return made


def _print_rules(namespaced: bool) -> int:
    from lepton_operator.rbac import rules
    from lepton_operator.yaml_text import dump

    sys.stdout.write(dump([{"rules": rules(namespaced)}]))
    return 0


def _plan(args: argparse.Namespace) -> int:
    from lepton_operator.commands.options import pod_settings
    from lepton_operator.desired import Choices, desired
    from lepton_operator.manifests import ManifestError, models
    from lepton_operator.yaml_text import dump

    settings = pod_settings(args)
    printed = []
    try:
        for model in models(args.file):
            scaling = model.spec.autoscaling
            replicas = scaling.min_replicas if scaling is not None else model.spec.replicas
            printed += [_readable(made) for made in desired(model, settings, Choices(replicas=replicas))]
    except ManifestError as error:
        print(error, file=sys.stderr)
        return 1
    sys.stdout.write(dump(printed))
    return 0
