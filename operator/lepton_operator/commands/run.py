"""Runs the operator."""

import argparse
import asyncio
import sys

from lepton_operator.commands.options import run_settings
from lepton_operator.kube.access import AccessError, find_access
from lepton_operator.logs import set_up


def run(args: argparse.Namespace) -> int:
    """Runs until told to stop.

    Returns:
        0 after a stop, 1 when the Lease was lost or it could not run, 2 for flags that do not go together.
    """
    set_up(args.log_level, args.log_format)
    try:
        settings = run_settings(args)
    except ValueError as error:
        print(f"lepton operator: {error}", file=sys.stderr)
        return 2
    try:
        access = find_access(args.kubeconfig, args.context)
    except AccessError as error:
        print(f"lepton operator: {error}", file=sys.stderr)
        return 1

    async def main() -> int:
        from lepton_operator.app import Operator

        return await Operator(access, settings).run()

    return asyncio.run(main())
