"""`lepton generate`: a prompt's continuation, streamed to the terminal."""

import argparse
import sys

from lepton_service.commands.arguments import (
    add_engine_arguments,
    add_sampling_arguments,
    add_server_arguments,
    sampling_options,
)
from lepton_service.commands.sources import SourceError, Summary, TextPrompt, open_source

HELP = "stream the continuation of a prompt to the terminal"
DESCRIPTION = """Stream the continuation of a prompt to the terminal, from a server or an engine in this process.

Text goes to stdout; --stats writes token counts and speed to stderr."""
EPILOG = """examples:
  lepton generate "Once upon a time" --max-tokens 64
  lepton generate --server localhost:50051 --chat "What is the weather like?"
  echo "我今天去了公园" | lepton generate -"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `lepton generate`."""
    parser.add_argument("prompt", help="the prompt, or - to read it from stdin")
    parser.add_argument("--chat", action="store_true", help="send the prompt as a user's message by the chat template")
    parser.add_argument("--system", metavar="TEXT", help="with --chat: a system message before it")
    parser.add_argument("--stats", action="store_true", help="write token counts and speed to stderr")
    parser.add_argument(
        "--model", metavar="PATH", help="in this process: checkpoint folder or id (default: the embedded model)"
    )
    add_sampling_arguments(parser)
    add_server_arguments(parser, None)
    add_engine_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the text.

    Returns:
        0, or 1 after an explanation on stderr.
    """
    text = sys.stdin.read().rstrip("\n") if args.prompt == "-" else args.prompt
    prompt: TextPrompt = text
    if args.chat:
        system = [{"role": "system", "content": args.system}] if args.system else []
        prompt = [*system, {"role": "user", "content": text}]
    summary = Summary()
    try:
        with open_source(args) as source:
            for piece in source.stream(prompt, sampling_options(args), summary):
                sys.stdout.write(piece)
                sys.stdout.flush()
    except SourceError as error:
        print(f"lepton generate: {error}", file=sys.stderr)
        return 1
    print()
    if args.stats:
        print(summary, file=sys.stderr)
    return 0
