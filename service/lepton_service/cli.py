"""The `lepton` command: finds its subcommands by entry point, imports the one that is called."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from types import ModuleType

GROUP = "lepton.commands"
DESCRIPTION = "Lepton serves language models over gRPC: run a server, talk to one, measure one."


def commands() -> dict[str, metadata.EntryPoint]:
    """The subcommands that are installed, by name."""
    return {entry.name: entry for entry in metadata.entry_points(group=GROUP)}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand.

    Returns:
        Its exit status: 0 for success, 1 for a failure that was explained on stderr, 2 for a wrong command line.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # Core tells of every GOAWAY otherwise
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # Core need not prepare for forks: children exec
    arguments = list(sys.argv[1:] if argv is None else argv)
    found = commands()
    wanted = arguments[0] if arguments and arguments[0] in found else None
    parser = argparse.ArgumentParser(prog="lepton", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"lepton {metadata.version('lepton-service')}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    modules: dict[str, ModuleType] = {}
    for name in [wanted] if wanted else sorted(found):
        try:
            module: ModuleType = found[name].load()
        except ImportError as error:
            if wanted:
                print(f"lepton {name}: not usable here: {error}", file=sys.stderr)
                return 1
            subparsers.add_parser(name, help=f"(not usable here: {error})")
            continue
        modules[name] = module
        subparser = subparsers.add_parser(
            name,
            help=module.HELP,
            description=getattr(module, "DESCRIPTION", module.HELP),
            epilog=getattr(module, "EPILOG", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(subparser)
    args = parser.parse_args(arguments)
    try:
        status: int = modules[args.command].run(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader has left; the interpreter would complain once more
        return 141
    return status
