"""`lepton bench`: a load generator."""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from lepton_service.commands.arguments import (
    add_server_arguments,
    client_options,
    count,
    positive_int,
    positive_seconds,
)

HELP = "measure a server under load"
DESCRIPTION = """Measure a server under load: time to first token, inter-token latency, throughput, percentiles.

Prompts are random token ids; end of sequence is ignored, so that lengths are as asked. The client's own CPU time is
reported, since on one machine it is taken from the server's."""
EPILOG = """examples:
  lepton bench --requests 64 --concurrency 16 --prompt-tokens 128 --output-tokens 128
  lepton bench --rate 4 --prompt-tokens 16-512 --output-tokens 16-256 --json results.json"""


class NotReadyError(Exception):
    """The server's model takes no requests."""


def span(text: str) -> tuple[int, int]:
    """A number of tokens, or a range of numbers such as 16-512."""
    low, dash, high = text.partition("-")
    first = positive_int(low)
    last = positive_int(high) if dash else first
    if last < first:
        raise argparse.ArgumentTypeError(f"{text} is not a range: it ends below its start")
    return first, last


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `lepton bench`."""
    group = parser.add_argument_group("load")
    group.add_argument("--requests", type=positive_int, default=64, metavar="N", help="in all (default: 64)")
    group.add_argument("--concurrency", type=positive_int, default=16, metavar="N", help="at once (default: 16)")
    group.add_argument(
        "--prompt-tokens", type=span, default=(128, 128), metavar="N[-M]", help="tokens of a prompt (default: 128)"
    )
    group.add_argument(
        "--output-tokens", type=span, default=(128, 128), metavar="N[-M]", help="tokens to generate (default: 128)"
    )
    group.add_argument(
        "--shared-prefix", type=count, default=0, metavar="N", help="leading prompt tokens common to all (default: 0)"
    )
    group.add_argument(
        "--rate", type=positive_seconds, metavar="R", help="requests a second, Poisson (default: as fast as they end)"
    )
    group.add_argument("--temperature", type=float, default=0.0, metavar="T", help="(default: 0)")
    group.add_argument("--coalesce", type=positive_int, default=1, metavar="N", help="tokens a message (default: 1)")
    group.add_argument("--seed", type=count, default=0, metavar="N", help="of prompts and arrivals (default: 0)")
    group.add_argument("--warmup", type=count, default=1, metavar="N", help="requests that do not count (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON; - for stdout")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    add_server_arguments(parser, "127.0.0.1:50051")


def run(args: argparse.Namespace) -> int:
    """Runs the load and shows the figures.

    Returns:
        0 when every request succeeded; 1 otherwise, or when there is no server.
    """
    from lepton_service.client import LeptonClientError
    from lepton_service.commands.serve import loop_factory

    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            figures = runner.run(_bench(args))
    except LeptonClientError as error:
        print(f"lepton bench: {args.server}: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError, NotReadyError) as error:
        print(f"lepton bench: {error}", file=sys.stderr)
        return 1
    text = json.dumps(figures, indent=2)
    if args.json is not None and str(args.json) == "-":
        print(text)
    else:
        _show(figures)
        if args.json is not None:
            args.json.write_text(text + "\n")
    return 1 if figures["results"]["failed"] else 0


async def _bench(args: argparse.Namespace) -> dict[str, Any]:
    from dataclasses import asdict, replace

    from lepton.v1.model_pb2 import ModelState
    from lepton_service.client import AsyncLeptonClient
    from lepton_service.load import Load, run_load
    from lepton_service.load_report import report

    load = Load(
        requests=args.requests,
        concurrency=args.concurrency,
        prompt_tokens=args.prompt_tokens,
        output_tokens=args.output_tokens,
        shared_prefix=args.shared_prefix,
        rate=args.rate,
        temperature=args.temperature,
        coalesce=args.coalesce,
        seed=args.seed,
    )
    async with AsyncLeptonClient(args.server, **client_options(args)) as client:
        model = await client.get_model()
        if model.state != ModelState.MODEL_STATE_READY:
            state = ModelState.Name(model.state).removeprefix("MODEL_STATE_").lower()
            raise NotReadyError(f"model {model.name} is {state}, not ready")
        if args.warmup:
            warmup = replace(load, requests=args.warmup, seed=load.seed + 2, rate=None)
            await run_load(client, warmup, model.vocabulary_size)
        with _progress(load.requests, hidden=args.no_progress) as advance:
            result = await run_load(client, load, model.vocabulary_size, lambda _: advance())
    return {"server": args.server, "model": model.name, "load": asdict(load), "results": report(result)}


class _progress:
    """A progress bar on stderr, of requests; nothing where stderr is no terminal."""

    def __init__(self, total: int, hidden: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("requests"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        self._bar = Progress(*columns, console=console, disable=hidden or not console.is_terminal)
        self._task = self._bar.add_task("requests", total=total)

    def __enter__(self) -> Any:
        self._bar.start()
        return lambda: self._bar.advance(self._task)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _show(figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    results = figures["results"]
    console = Console()
    console.print(f"{figures['model']} at {figures['server']}", highlight=False)
    console.print(
        f"{results['requests']} requests ({results['failed']} failed) in {results['seconds']:.2f} s: "
        f"{results['requests_per_second']:.2f} requests/s, {results['generated_tokens_per_second']:.1f} generated "
        f"tokens/s, {results['total_tokens_per_second']:.1f} tokens/s in all",
        highlight=False,
    )
    console.print(
        f"client: {results['client_cpu_seconds']:.2f} s of CPU time, {results['client_cpu_share']:.0%} of one core",
        highlight=False,
    )
    table = Table()
    table.add_column("ms", no_wrap=True)
    for heading in ("mean", "p50", "p90", "p95", "p99", "max"):
        table.add_column(heading, justify="right")
    for name in ("time_to_first_token_ms", "inter_token_latency_ms", "request_latency_ms"):
        row = results[name]
        if row:
            label = name.removesuffix("_ms").replace("_", " ")
            table.add_row(label, *(f"{row[key]:.2f}" for key in ("mean", "p50", "p90", "p95", "p99", "max")))
    console.print(table)
    for error, number in results["errors"].items():
        console.print(f"{number} x {error}", highlight=False, style="red", markup=False)
