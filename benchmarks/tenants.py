"""One tenant floods, another one asks now and then: time to first token of the second, alone and beside the flood.

`lepton serve` with the embedded model on free ports, the flood's clients in a process of their own. The quiet tenant
sends a request every so often (a Poisson process), whatever has become of the ones before; the flood keeps a number of
requests in flight, takes what it gets and tries again when it is refused. Rounds alternate, quiet and beside the
flood; the control sends the flood in the quiet tenant's own name, so that nothing keeps them apart. The prefix cache
hits nothing: all prompts are random. Clients, front end and engine share the machine's cores; the flood's clients are
niced.
"""

import asyncio
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event

from benchmarks import common
from benchmarks.served import serving
from lepton_service.client import AsyncLeptonClient, LeptonClientError

TENANT_KEY = "x-lepton-tenant"
VOCABULARY = 3000
TARGET = 2.0


@dataclass(frozen=True)
class Flood:
    """What the flooding tenant sends: so many requests in flight, each of so many prompt and output tokens."""

    in_flight: int
    prompt: int
    output: int


FLOODS = {
    "short requests": Flood(64, 64, 32),
    "long prompts": Flood(64, 900, 8),
    "long outputs": Flood(64, 64, 900),
}


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, help="default: 5, 1 with --quick")
    parser.add_argument("--seconds", type=float, help="of each round; default: 15, 4 with --quick")
    parser.add_argument("--rate", type=float, default=8.0, help="requests a second of the quiet tenant")
    parser.add_argument("--prompt", type=int, default=256, help="tokens of its prompts")
    parser.add_argument("--output", type=int, default=16, help="tokens of its outputs")
    parser.add_argument("--flood", choices=sorted(FLOODS), action="append", help="default: each")
    parser.add_argument("--in-flight", type=int, help="of the flood; default: 64")
    parser.add_argument("--no-control", action="store_true", help="leave out the flood in the tenant's own name")
    parser.add_argument("--max-num-seqs", type=int, default=16)
    parser.add_argument("--max-num-batched-tokens", type=int, default=512)
    parser.add_argument("--max-queued-requests", type=int, default=128)
    args = parser.parse_args()
    rounds = args.rounds or (1 if args.quick else 5)
    seconds = args.seconds or (4.0 if args.quick else 15.0)
    floods = {name: FLOODS[name] for name in args.flood or FLOODS}
    quiet: list[float] = []
    beside: dict[tuple[str, str], list[float]] = {}
    options = ["--max-num-seqs", str(args.max_num_seqs), "--max-queued-requests", str(args.max_queued_requests)]
    options += ["--max-num-batched-tokens", str(args.max_num_batched_tokens)]
    tenants = ["flood"] if args.no_control else ["flood", "quiet"]
    with serving(*options) as server:
        address = server.target
        asyncio.run(ask(address, args, 2.0, 0))  # Warm.
        for number in range(rounds):
            quiet += asyncio.run(ask(address, args, seconds, number))
            for name, flood in floods.items():
                for tenant in tenants:
                    flood = Flood(args.in_flight or flood.in_flight, flood.prompt, flood.output)
                    with flooding(address, flood, tenant):
                        taken = asyncio.run(ask(address, args, seconds, number))
                    beside.setdefault((name, tenant), []).extend(taken)
                    asyncio.run(empty(address))
            print(f"round {number + 1} of {rounds}", flush=True)
    rows = []
    for quantile in (0.5, 0.99):
        alone = at(quiet, quantile)
        rows.append(row(f"p{quantile * 100:g}, alone", alone, None))
        for (name, tenant), values in beside.items():
            whose = "of another tenant" if tenant == "flood" else "in its own name (control)"
            rows.append(row(f"p{quantile * 100:g}, flood of {name} {whose}", at(values, quantile), alone))
    worst = max(at(values, 0.99) / at(quiet, 0.99) for (_, tenant), values in beside.items() if tenant == "flood")
    notes = [
        f"quiet tenant: {args.rate:g} requests/s of {args.prompt} + {args.output} tokens, {len(quiet)} of them alone; "
        f"flood: {args.in_flight or 64} in flight",
        f"max_num_seqs {args.max_num_seqs}, {args.max_num_batched_tokens} tokens a step, engine on one thread; "
        f"{rounds} rounds of {seconds:g} s",
        f"the ratio is time to first token alone over that beside the flood; worst p99: {worst:.2f} times that alone, "
        f"target: at most {TARGET:g}",
    ]
    common.report("Time to first token of a quiet tenant", rows, args.json, notes)
    return 0


def row(work: str, seconds: float, alone: float | None) -> common.Row:
    """A figure of the table."""
    return common.Row(
        work,
        common.LEPTON,
        "embedded bfloat16",
        seconds * 1000,
        "ms",
        None if alone is None else alone / seconds,
        versions=common.versions("lepton-engine", "lepton-service"),
    )


def at(values: list[float], quantile: float) -> float:
    """A quantile of some values, the nearest rank above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]


def prompt(source: random.Random, length: int) -> list[int]:
    """Random tokens."""
    return [source.randrange(5, VOCABULARY) for _ in range(length)]


async def ask(address: str, args: "object", seconds: float, seed: int) -> list[float]:
    """The quiet tenant's times to first token, in seconds."""
    rate, length, output = (getattr(args, name) for name in ("rate", "prompt", "output"))
    source = random.Random(seed)
    taken: list[float] = []

    async def one(client: AsyncLeptonClient, ids: list[int]) -> None:
        began = time.perf_counter()
        first = None
        async for event in client.generate(ids, max_tokens=output, ignore_eos=True):
            if first is None and event.WhichOneof("event") == "delta":
                first = time.perf_counter() - began
        assert first is not None
        taken.append(first)

    async with AsyncLeptonClient(address, metadata=[(TENANT_KEY, "quiet")]) as client, asyncio.TaskGroup() as group:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            group.create_task(one(client, prompt(source, length)))
            await asyncio.sleep(source.expovariate(rate))
    return taken


@contextmanager
def flooding(address: str, flood: Flood, tenant: str) -> Iterator[None]:
    """A flood in a process of its own, under way until the block ends."""
    context = multiprocessing.get_context("spawn")
    begun, stop = context.Event(), context.Event()
    process = context.Process(target=_flood, args=(address, flood, tenant, begun, stop))
    process.start()
    begun.wait()
    try:
        yield
    finally:
        stop.set()
        process.join()


def _flood(address: str, flood: Flood, tenant: str, begun: Event, stop: Event) -> None:
    os.nice(10)  # Clients of others run elsewhere: these are not to take the server's processor from it.
    asyncio.run(_keep(address, flood, tenant, begun, stop))


async def _keep(address: str, flood: Flood, tenant: str, begun: Event, stop: Event) -> None:
    source = random.Random(1)

    async def one(client: AsyncLeptonClient) -> None:
        while not stop.is_set():
            try:
                stream = client.generate(
                    prompt(source, flood.prompt), max_tokens=flood.output, ignore_eos=True, coalesce_tokens=16
                )
                async with stream:
                    async for _ in stream:
                        begun.set()
                        if stop.is_set():
                            break
            except LeptonClientError as error:
                await asyncio.sleep(error.retry_after or 0.1)

    async with AsyncLeptonClient(address, metadata=[(TENANT_KEY, tenant)]) as client, asyncio.TaskGroup() as group:
        for _ in range(flood.in_flight):
            group.create_task(one(client))


async def empty(address: str) -> None:
    """Returns when the server has nothing to do."""
    async with AsyncLeptonClient(address) as client:
        async for stats in client.watch_stats(0.05):
            if not stats.running and not stats.waiting:
                return


if __name__ == "__main__":
    sys.exit(main())
