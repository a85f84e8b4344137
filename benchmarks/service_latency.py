"""What the service adds to the engine: latency of tokens, and processor time of the front end for a message.

1. A model in process and through `lepton serve`, the same requests in alternating rounds: what is added to the median
   time to first token and to the median time between tokens, and to the 99th percentile of the first token. The
   embedded model (half a millisecond a step) at 1 stream, the 135M shape at 1 and at 16. Beside them, as the floor of
   any service on this stack, a bare `grpc.aio` server in a process of its own, which answers at once with messages of
   the same size.
2. A stub in the place of the engine (`benchmarks.stub_engine`) paces 1, 16 and 256 streams at 20 tokens/s each: how
   long a token is on its way from the stub's hands to the client's, how many of the paced tokens came, and messages
   per second of processor time of the front end. The stub's client is a process of its own.

Clients, front end and engine share the machine's cores.
"""

import asyncio
import multiprocessing
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil

from benchmarks import common
from benchmarks.served import serving
from benchmarks.shapes import checkpoint
from benchmarks.stub_engine import age, stub_serving
from lepton_engine import embedded
from lepton_engine.engine import AsyncLeptonEngine
from lepton_engine.sampling_params import OutputKind, SamplingParams
from lepton_service.client import AsyncLeptonClient
from lepton_service.load_report import percentile

WORKS = (("embedded", 1), ("135M", 1), ("135M", 16))  # model and streams
PACED = (1, 16, 256)
RATE = 20.0
WARM_UP = 3.0  # seconds
PROMPT = 32
OUTPUTS = (16, 48)  # drawn between them, so that streams do not begin together for ever
VOCABULARY = 3000
BARE_METHOD = "/bare.Service/Answer"
BARE_SIZES = (80, 30)  # bytes of the messages that tell of the start and of a token
KV_CACHE = 128 << 20  # bytes; little enough that the warm-up has touched all of it


@dataclass
class Times:
    """Seconds of many requests: to their first token, and between tokens."""

    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Paced:
    """What a client saw of a paced stub.

    Attributes:
        transits: seconds from the stub to the client, by token. gaps: seconds between two tokens of a stream.
        tokens: how many came. seconds: that it took.
        front_cpu: processor seconds of the front end meanwhile.
    """

    transits: list[float]
    gaps: list[float]
    tokens: int
    seconds: float
    front_cpu: float


Tokens = Callable[[list[int], int], AsyncIterator[int]]


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, help="default: 5, 1 with --quick")
    parser.add_argument("--seconds", type=float, help="of each side and round; default: 10, 2 with --quick")
    parser.add_argument("--only", choices=["model", "stub"], help="one of the two parts")
    parser.add_argument("--profile", metavar="FILE", help="py-spy's raw samples of the front end at 256 paced streams")
    args = parser.parse_args()
    rounds = args.rounds or (1 if args.quick else 5)
    seconds = args.seconds or (2.0 if args.quick else 10.0)
    rows: list[common.Row] = []
    if args.only != "stub":
        for model in dict.fromkeys(model for model, _ in WORKS):
            rows += asyncio.run(model_part(model, rounds, seconds))
    if args.only != "model":
        rows += stub_part(rounds, seconds, args.profile)
    notes = [
        f"{rounds} rounds of {seconds:g} s, medians of the rounds; prompts of {PROMPT} tokens, "
        f"outputs of {OUTPUTS[0]} to {OUTPUTS[1]}; "
        "clients, front end and engine share the cores",
        "targets: first token +1 ms at the median and +5 ms at the 99th percentile, between tokens +0.3 ms; at 256 "
        "streams p99 15 ms, at most 5 % loss; 10,000 messages a second of a core",
    ]
    common.report("What the service adds", rows, args.json, notes)
    return 0


def row(work: str, system: str, value: float, unit: str) -> common.Row:
    """A figure of the table."""
    weights = "none" if "stub" in system or "bare" in system else "bfloat16"
    versions = common.versions("lepton-engine", "lepton-service", "grpcio")
    return common.Row(work, system, weights, value, unit, versions=versions)


async def model_part(model: str, rounds: int, seconds: float) -> list[common.Row]:
    """A model in process and through gRPC."""
    folder = embedded.path() if model == "embedded" else checkpoint(model)
    loads = [streams for name, streams in WORKS if name == model]
    engine = AsyncLeptonEngine(folder, num_threads=1, kv_cache_memory=KV_CACHE)
    await engine.start()
    names = ("in process", "gRPC", "bare gRPC")
    sides: dict[str, dict[int, list[Times]]] = {name: {n: [] for n in loads} for name in names}
    flags = ("--max-connection-age", "0", "--kv-cache-memory", str(KV_CACHE))
    with serving(*flags, model=folder) as server, bare_server() as bare:
        async with AsyncLeptonClient(server.target) as client, grpc.aio.insecure_channel(bare) as channel:

            async def direct(prompt: list[int], tokens: int) -> AsyncIterator[int]:
                params = SamplingParams(
                    max_tokens=tokens, ignore_eos=True, temperature=0.0, output_kind=OutputKind.DELTA
                )
                async with aclosing(engine.generate(prompt, params)) as outputs:
                    async for output in outputs:
                        yield sum(len(part.token_ids) for part in output.outputs)

            async def through(prompt: list[int], tokens: int) -> AsyncIterator[int]:
                async for event in client.generate(prompt, max_tokens=tokens, ignore_eos=True, temperature=0.0):
                    yield len(event.delta.token_ids)

            answer: Any = channel.unary_stream(BARE_METHOD)

            async def echoed(prompt: list[int], tokens: int) -> AsyncIterator[int]:
                async for _ in answer(bytes(4 * len(prompt))):
                    yield 1

            ways: tuple[tuple[str, Tokens], ...] = tuple(zip(names, (direct, through, echoed), strict=True))
            for number in range(rounds + 1):
                for streams in loads:
                    for name, way in ways:
                        span = seconds if number else WARM_UP
                        times = await measured(way, streams, span, number)
                        if number:
                            sides[name][streams].append(times)
    await engine.shutdown()
    rows = []
    for streams in loads:
        for what, kind, quantile in (("first token", "first", 50), ("first token", "first", 99), ("gap", "gaps", 50)):
            values = {
                name: [percentile(getattr(times, kind), quantile) * 1000 for times in of[streams]]
                for name, of in sides.items()
            }
            work = f"{model}, {streams} streams, {what} p{quantile}"
            if kind == "gaps":
                del values["bare gRPC"]  # its messages follow each other at once
            for name, found in values.items():
                rows.append(row(work, name, common.median(found), "ms"))
            added = [b - a for a, b in zip(values["in process"], values["gRPC"], strict=True)]
            rows.append(row(work, "added", common.median(added), "ms"))
    return rows


@contextmanager
def bare_server() -> Iterator[str]:
    """A `grpc.aio` server in a process of its own that does nothing but answer: its address."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs,))
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()


def _answer(pipe: Any) -> None:
    import uvloop

    async def answers(request: bytes, context: Any) -> None:
        await context.send_initial_metadata((("x-request-id", "0" * 32),))
        for size in BARE_SIZES:
            await context.write(bytes(size))

    async def run() -> None:
        server = grpc.aio.server()
        service, method = BARE_METHOD[1:].split("/")
        handlers: Any = {method: grpc.unary_stream_rpc_method_handler(answers)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        pipe.send(f"127.0.0.1:{port}")
        await server.wait_for_termination()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def measured(way: Tokens, streams: int, seconds: float, seed: int) -> Times:
    """Runs requests one after the other on so many streams."""
    times = Times()
    end = time.monotonic() + seconds

    async def one(number: int) -> None:
        source = random.Random(seed * 1000 + number)
        while time.monotonic() < end:
            prompt = [source.randrange(5, VOCABULARY) for _ in range(PROMPT)]
            last = began = time.perf_counter()
            first = True
            async for count in way(prompt, source.randint(*OUTPUTS)):
                if not count:
                    continue
                now = time.perf_counter()
                if first:
                    times.first.append(now - began)
                    first = False
                else:
                    times.gaps.extend([(now - last) / count] * count)
                last = now

    await asyncio.gather(*(one(number) for number in range(streams)))
    return times


def stub_part(rounds: int, seconds: float, profile: str | None) -> list[common.Row]:
    """The front end before a paced stub."""
    seen: dict[int, list[Paced]] = {streams: [] for streams in PACED}
    with stub_serving(RATE) as (address, server):
        paced(address, server, 16, 1.0)
        for _ in range(rounds):
            for streams in PACED:
                seen[streams].append(paced(address, server, streams, seconds))
        if profile is not None:
            spy = [str(Path(sys.executable).parent / "py-spy"), "record", "--native", "--format", "raw"]
            span = ["--pid", str(server.pid), "--duration", str(round(seconds)), "--output", profile]
            recording = subprocess.Popen([*spy, *span])
            paced(address, server, PACED[-1], seconds + 1)
            recording.wait()
    rows = []
    for streams, found in seen.items():
        work = f"{streams} paced streams"
        for quantile in (50, 99):
            values = [percentile(one.transits, quantile) * 1000 for one in found]
            rows.append(row(f"{work}, token on its way p{quantile}", "front end, stub engine", median(values), "ms"))
        late = [(percentile(one.gaps, 99) - 1 / RATE) * 1000 for one in found]
        rows.append(row(f"{work}, between tokens p99 beyond the pace", "front end, stub engine", median(late), "ms"))
        loss = [100 * (1 - one.tokens / (streams * RATE * one.seconds)) for one in found]
        rows.append(row(f"{work}, loss", "front end, stub engine", median(loss), "%"))
        speed = [one.tokens / one.front_cpu for one in found if one.front_cpu]
        rows.append(row(f"{work}, messages per core second", "front end, stub engine", median(speed), "1/s"))
    return rows


def median(values: Sequence[float]) -> float:
    """The middle of several runs; 0 where there were none."""
    return common.median(values) if values else 0.0


def paced(address: str, server: psutil.Process, streams: int, seconds: float) -> Paced:
    """Streams of a client in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_client, args=(theirs, address, streams, seconds))
    process.start()
    ours.recv()
    before = cpu(server)
    transits, gaps, tokens, spent = ours.recv()
    used = cpu(server) - before
    ours.send(None)
    process.join()
    return Paced(transits, gaps, tokens, spent, used)


def cpu(process: psutil.Process) -> float:
    """Processor seconds so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _client(pipe: Any, address: str, streams: int, seconds: float) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_follow(pipe, address, streams, seconds))


async def _follow(pipe: Any, address: str, streams: int, seconds: float) -> None:
    """Counts what comes between two moments at which all streams run."""
    transits: list[float] = []
    gaps: list[float] = []
    counting = False
    running = 0
    all_run, stop = asyncio.Event(), asyncio.Event()

    async def one(client: AsyncLeptonClient) -> None:
        nonlocal running
        stream = client.generate("x", max_tokens=1 << 20, ignore_eos=True)
        begun, last = False, 0.0
        async with stream:
            async for event in stream:
                now = time.perf_counter()
                if counting and event.delta.token_ids:
                    transits.extend(map(age, event.delta.token_ids))
                    gaps.append(now - last)
                last = now
                if not begun and event.delta.token_ids:
                    begun = True
                    running += 1
                    if running == streams:
                        all_run.set()
                if stop.is_set():
                    return

    async with AsyncLeptonClient(address) as client:
        tasks = [asyncio.create_task(one(client)) for _ in range(streams)]
        await all_run.wait()
        pipe.send(None)
        counting, began = True, time.perf_counter()
        await asyncio.sleep(seconds)
        counting, spent = False, time.perf_counter() - began
        pipe.send((transits, gaps, len(transits), spent))
        await asyncio.to_thread(pipe.recv)
        stop.set()
        await asyncio.gather(*tasks)


if __name__ == "__main__":
    sys.exit(main())
