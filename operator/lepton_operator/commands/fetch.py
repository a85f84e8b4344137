"""`lepton fetch`: weights into a folder."""

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lepton_operator.preload import Report

HELP = "fetch a model into a folder: Hugging Face, S3, GCS, HTTP"
DESCRIPTION = """Fetch a model into a folder, one folder a revision.

Goes on where an earlier run broke off, checks what has come, and shows a revision only when all of it is there."""
EPILOG = """examples:
  lepton fetch hf://owner/name@main --into ~/models --link current
  lepton fetch s3://bucket/llama --endpoint http://localhost:9000 --into /models
  lepton fetch https://example.org/model.tar.gz --sha256 HEX --into /models
  lepton fetch --prune --into /models --link current      remove all other revisions"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `lepton fetch`."""
    parser.add_argument("source", nargs="?", help="hf://OWNER/NAME[@REVISION], s3://..., gs://... or http(s)://...")
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="folder of this model's revisions")
    parser.add_argument("--link", metavar="NAME", help="name of a link in it to what was fetched")
    parser.add_argument("--revision", metavar="REV", help="fail unless the source is at this revision")
    parser.add_argument(
        "--endpoint", metavar="URL", help="another server that speaks the Hub's, S3's or GCS's protocol"
    )
    parser.add_argument("--region", metavar="NAME", help="region of an S3 bucket")
    parser.add_argument("--sha256", metavar="HEX", help="of the file behind HTTP")
    parser.add_argument(
        "--credentials",
        type=Path,
        metavar="DIR",
        help="folder with files token, accessKeyID, secretAccessKey, sessionToken, credentials.json",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the revision, or the error, there as JSON")
    parser.add_argument("--resolve-only", action="store_true", help="only find the revision")
    parser.add_argument("--prune", action="store_true", help="remove all but what --link points at")


def run(args: argparse.Namespace) -> int:
    """Fetches.

    Returns:
        An exit status of `lepton_operator.fetch.exits`: 0 for success, 10 and above by what went wrong.
    """
    import msgspec

    from lepton_operator.fetch import exits
    from lepton_operator.fetch.errors import FetchError
    from lepton_operator.preload import Report

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        report, status = _carry_out(args), exits.OK
    except FetchError as error:
        report, status = Report(error=str(error)), error.status
    except ValueError as error:
        report, status = Report(error=str(error)), exits.USAGE
    if report.error:
        print(f"lepton fetch: {report.error}", file=sys.stderr)
    else:
        print(report.revision)
    if args.report is not None:
        args.report.write_bytes(msgspec.json.encode(report)[:4096])  # What the kubelet takes.
    return status


def _carry_out(args: argparse.Namespace) -> "Report":
    from lepton_operator.fetch.address import source_at
    from lepton_operator.fetch.download import fetch, resolve
    from lepton_operator.fetch.folder import Folder
    from lepton_operator.fetch.source import Credentials
    from lepton_operator.preload import Report

    if args.prune:
        if args.link is None:
            raise ValueError("--prune needs --link: what it points at is kept")
        folder = Folder(args.into)
        with folder.locked():
            removed = folder.prune(args.link)
        print(f"removed: {', '.join(removed) or 'nothing'}", file=sys.stderr)
        return Report(revision=(args.into / args.link).resolve().name)
    if args.source is None:
        raise ValueError("a source is needed, such as hf://owner/name")
    source = source_at(
        args.source,
        endpoint=args.endpoint,
        region=args.region,
        sha256=args.sha256,
        credentials=Credentials(args.credentials),
    )
    if args.resolve_only:
        return Report(revision=resolve(source, args.revision).revision)
    fetched = fetch(source, args.into, args.link, args.revision)
    return Report(revision=fetched.revision, others=fetched.others)
