"""`lepton token`: a bearer token, and the line of it for the server's file."""

import argparse
import os
import re
import sys
import time
from pathlib import Path

from lepton_service.auth.errors import AuthConfigError
from lepton_service.auth.principal import MAX_NAME_LENGTH, is_name
from lepton_service.auth.tokens import TokenEntry, digest, make_token, parse

HELP = "make a bearer token"
DESCRIPTION = """Make a bearer token, and the line of it for the file of `lepton serve --auth-tokens`.

The token goes to stdout, once: the file holds its hash only. A running server reads the file again by itself."""
EPILOG = """examples:
  lepton token ci --tenant acme --file tokens              make one, add its line to the file
  lepton token ci --tenant acme --expires-in 90d           the line goes to stderr
  kubectl create secret generic llama-tokens --from-file=tokens      what spec.server.auth.tokensSecret names"""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([1-9]\d{0,8})([smhd])")


def name(text: str) -> str:
    """The name of a token or a tenant."""
    if not is_name(text):
        raise argparse.ArgumentTypeError(
            f"{text[:100]!r} is not 1 to {MAX_NAME_LENGTH} printable ASCII characters without spaces"
        )
    return text


def duration(text: str) -> int:
    """Seconds from a text such as `90d`."""
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) * _UNITS[match[2]] > 100 * 366 * 86400:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a time such as 30m, 12h or 90d, of 100 years at most")
    return int(match[1]) * _UNITS[match[2]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `lepton token`."""
    parser.add_argument("name", type=name, help="who gets it, for logs and for you")
    parser.add_argument("--tenant", type=name, required=True, help="whose limits and prefix cache it uses")
    parser.add_argument("--expires-in", type=duration, metavar="TIME", help="such as 12h or 90d (default: never)")
    parser.add_argument("--file", type=Path, metavar="FILE", help="add the line to this file, made if it is missing")


def run(args: argparse.Namespace) -> int:
    """Makes one.

    Returns:
        0, or 1 when the file cannot be used.
    """
    token = make_token()
    expires = None if args.expires_in is None else float(int(time.time()) + args.expires_in)
    line = TokenEntry(args.name, args.tenant, digest(token), expires).line()
    if args.file is None:
        print(line, file=sys.stderr)
    else:
        try:
            _add(args.file, line)
        except (OSError, AuthConfigError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            print(f"lepton token: {args.file}: {reason}", file=sys.stderr)
            return 1
    print(token)
    return 0


def _add(path: Path, line: str) -> None:
    """Puts a file with the line behind the others in the place of the old, so that a server never reads half of it."""
    path = path.resolve()
    before = path.read_bytes() if path.exists() else b""
    parse(before)
    if before and not before.endswith(b"\n"):
        before += b"\n"
    mode = path.stat().st_mode & 0o777 if before else 0o600
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(before + line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
