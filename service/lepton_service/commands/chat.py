"""`lepton chat`: a conversation in the terminal."""

import argparse
import sys
from collections.abc import Iterator

from lepton_service.commands.arguments import (
    add_engine_arguments,
    add_sampling_arguments,
    add_server_arguments,
    sampling_options,
)
from lepton_service.commands.sources import Source, SourceError, Summary, open_source

HELP = "hold a conversation in the terminal"
DESCRIPTION = """Hold a conversation with a model in the terminal, from a server or an engine in this process.

/reset forgets the conversation, /exit (or end of input) ends it; Ctrl-C stops an answer."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `lepton chat`."""
    parser.add_argument("--system", metavar="TEXT", help="a system message at the head of the conversation")
    parser.add_argument("--stats", action="store_true", help="write token counts and speed to stderr")
    parser.add_argument(
        "--model", metavar="PATH", help="in this process: checkpoint folder or id (default: the embedded model)"
    )
    add_sampling_arguments(parser)
    add_server_arguments(parser, None)
    add_engine_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Talks until the end of input.

    Returns:
        0, or 1 after an explanation on stderr.
    """
    head = [{"role": "system", "content": args.system}] if args.system else []
    history = list(head)
    try:
        with open_source(args) as source:
            for line in _lines():
                if line == "/exit":
                    break
                if line == "/reset":
                    history = list(head)
                    continue
                asked = [*history, {"role": "user", "content": line}]
                answer = _answer(args, source, asked)
                history = [*asked, {"role": "assistant", "content": answer}]
    except SourceError as error:
        print(f"lepton chat: {error}", file=sys.stderr)
        return 1
    return 0


def _lines() -> Iterator[str]:
    """What the person types, without empty lines."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if line:
            yield line


def _answer(args: argparse.Namespace, source: Source, asked: list[dict[str, str]]) -> str:
    """Streams the answer to the terminal; what there is of it when it is stopped."""
    summary = Summary()
    said = []
    pieces = source.stream(asked, sampling_options(args), summary)
    try:
        for piece in pieces:
            said.append(piece)
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        print(" [stopped]", file=sys.stderr)
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
    print()
    if args.stats:
        print(summary, file=sys.stderr)
    return "".join(said)
