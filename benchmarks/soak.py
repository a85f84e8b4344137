"""`make soak`: a thousand connections, 256 streams, slow readers and clients that are killed, on one server.

`lepton serve` with the embedded model. Phases alternate: in A only the healthy streams run (85 % of all), in B a tenth
of the streams read slowly beside them and a twentieth belong to client processes that are killed by SIGKILL and started
again. The other connections are open and ask for the models now and then. Watched: that no healthy stream fails, its
99th percentile of the time between tokens in B against that in A, and at the end that nothing runs, that all of the KV
cache is free and that memory is flat. Beside it one stream is silent for a minute, before a stub engine, with the
published keepalive. Clients, front end and engine share the machine's cores.
"""

import asyncio
import multiprocessing
import os
import random
import resource
import signal
import sys
import threading
import time
from array import array
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

import grpc
import psutil

from benchmarks import common
from benchmarks.served import serving
from benchmarks.stub_engine import stub_serving
from lepton.v1 import generation_pb2_grpc, model_pb2_grpc
from lepton.v1.model_pb2 import ListModelsRequest
from lepton_service.client import AsyncLeptonClient, LeptonClient, LeptonClientError, channel_options, generate_request
from lepton_service.load_report import percentile

PROMPT, OUTPUT, LONG_OUTPUT = 16, 64, 900
VOCABULARY = 3000
TARGET = 1.5
MAX_GROWTH = 0.05
SILENCE_SECONDS = 65.0
KILL_SECONDS = 5.0
SPARE_FILES = 200
KV_CACHE = "128MiB"  # so little that all of it has been touched by the end of the first cycle
NICENESS = 10  # of the disturbing clients: what they disturb is the server, not the cores that it runs on
CONTEXT = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Plan:
    """How many of each. The streams' connections are among the connections.

    Attributes:
        cycles: of A and B. seconds: of a phase. settle: seconds at its beginning that are not counted.
    """

    connections: int
    healthy: int
    slow: int
    killed: int
    cycles: int
    seconds: float
    settle: float


class FileLimitError(Exception):
    """The hard limit of open files is below what the connections need."""


def plan(connections: int, streams: int, seconds: float) -> Plan:
    """Shares of the streams, and phases of at most a minute each."""
    slow, killed = max(1, streams // 10), max(1, streams // 20)
    cycles = max(2, round(seconds / 120))
    phase = seconds / (2 * cycles)
    return Plan(connections, streams - slow - killed, slow, killed, cycles, phase, min(5.0, phase / 3))


def raise_file_limit(needed: int) -> None:
    """Lets this process and those that it starts open as many files as the hard limit allows.

    Raises:
        FileLimitError: that is fewer than needed.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise FileLimitError(
            f"{needed} open files are needed, the hard limit is {hard}: raise it (`ulimit -Hn`) or lower --connections"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed if hard == resource.RLIM_INFINITY else hard, hard))


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--seconds", type=float, help="in all; default: 600, 30 with --quick")
    parser.add_argument("--no-silence", action="store_true", help="leave out the stream that is silent for a minute")
    args = parser.parse_args()
    if args.streams < 20 or args.connections < args.streams:
        found = f"--streams {args.streams}, --connections {args.connections}"
        parser.error(f"{found}: at least 20 streams are needed, and as many connections as streams")
    chosen = plan(args.connections, args.streams, args.seconds or (30.0 if args.quick else 600.0))
    try:
        raise_file_limit(2 * chosen.connections + SPARE_FILES)
    except FileLimitError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    silence = Silence()
    if not args.quick and not args.no_silence:
        silence.start()
    failures, rows, notes = soak(chosen, figures=not args.quick)
    if silence.ident is not None:
        silence.join()
        notes.append(f"a stream silent for {SILENCE_SECONDS:g} s with the published keepalive: {silence.outcome}")
        if silence.outcome != "stayed":
            failures.append(f"the silent stream: {silence.outcome}")
    notes += [f"FAILED: {failure}" for failure in failures] or ["nothing failed"]
    common.report("Soak", rows, args.json, notes)
    return 1 if failures else 0


def soak(chosen: Plan, figures: bool = True) -> tuple[list[str], list[common.Row], list[str]]:
    """All phases on one server: what went wrong, the figures, notes.

    Args:
        figures: whether latency and memory count, which in a short run say little.
    """
    phases: list[tuple[str, float, float]] = []
    memory: list[tuple[float, float]] = []
    kills = 0
    with serving("--max-queued-requests", "1024", "--kv-cache-memory", KV_CACHE) as server:
        address, front = server.target, server.front
        healthy = Worker(_healthy, address, chosen.healthy)
        idle = Worker(_idle, address, chosen.connections - chosen.healthy - chosen.slow - chosen.killed)
        for worker in (healthy, idle):
            worker.begun()
        for _ in range(chosen.cycles):
            phases.append(_phase("A", chosen, 0, address)[:3])
            name, begin, end, killed = _phase("B", chosen, 1, address)
            phases.append((name, begin, end))
            kills += killed
            healthy.tell("pause")
            asyncio.run(_empty(address))
            memory.append((_resident(front), _resident(*front.children())))
            healthy.tell("go")
        stamps, gaps, errors, finished = healthy.end()
        idle_errors = idle.end()
        stats = asyncio.run(_empty(address))
    return _verdict(chosen, phases, (stamps, gaps), errors + idle_errors, finished, kills, memory, stats, figures)


def _verdict(
    chosen: Plan,
    phases: list[tuple[str, float, float]],
    samples: tuple[Any, Any],
    errors: list[str],
    finished: int,
    kills: int,
    memory: list[tuple[float, float]],
    stats: Any,
    figures: bool,
) -> tuple[list[str], list[common.Row], list[str]]:
    taken: dict[str, list[float]] = {"A": [], "B": []}
    for name, begin, end in phases:
        taken[name] += [gap for at, gap in zip(*samples, strict=True) if begin <= at < end]
    quiet, beside = (percentile(taken[name], 99) * 1000 for name in ("A", "B"))
    growth = [last / first - 1 for first, last in zip(memory[0], memory[-1], strict=True)]
    failures = [f"healthy: {error}" for error in errors[:5]]
    if figures and (not quiet or beside / quiet > TARGET):
        failures.append(
            f"p99 between tokens {beside:.1f} ms beside the others, {quiet:.1f} ms alone: above {TARGET:g}x"
        )
    if stats.running or stats.waiting or stats.kv_blocks_free != stats.kv_blocks_total:
        failures.append(f"at the end: {stats.running} running, {stats.kv_blocks_free} of {stats.kv_blocks_total} free")
    if figures and max(growth) > MAX_GROWTH:
        failures.append(f"memory grew by {growth[0]:.1%} (front end) and {growth[1]:.1%} (engine)")
    system = common.LEPTON
    rows = [
        common.Row("healthy, between tokens p99, alone (A)", system, "embedded bfloat16", quiet, "ms"),
        common.Row(
            "healthy, between tokens p99, beside slow and killed (B)",
            system,
            "embedded bfloat16",
            beside,
            "ms",
            quiet / beside if beside else None,
        ),
        common.Row("healthy streams finished", system, "", finished, "streams"),
        common.Row("healthy streams failed", system, "", len(errors), "streams"),
        common.Row("client processes killed", system, "", kills, "processes"),
        common.Row("front end resident, after the first cycle", system, "", memory[0][0], "MiB"),
        common.Row("front end resident, after the last", system, "", memory[-1][0], "MiB"),
        common.Row("engine resident, after the first cycle", system, "", memory[0][1], "MiB"),
        common.Row("engine resident, after the last", system, "", memory[-1][1], "MiB"),
    ]
    notes = [
        f"{chosen.connections} connections; {chosen.healthy} healthy, {chosen.slow} slow, {chosen.killed} killed "
        f"streams; {chosen.cycles} cycles of {chosen.seconds:g} s alone and as long beside",
        f"clients and server share the cores; the slow and the killed clients run at niceness {NICENESS}",
        f"at the end: {stats.running} running, {stats.kv_blocks_free} of {stats.kv_blocks_total} KV blocks free",
    ]
    return failures, rows, notes


def _phase(name: str, chosen: Plan, disturbed: int, address: str) -> tuple[str, float, float, int]:
    """Lets a phase pass: its name, begin and end of what counts, and how many processes were killed."""
    slow = Worker(_slow, address, chosen.slow) if disturbed else None
    groups = [chosen.killed // 3 + (number < chosen.killed % 3) for number in range(3)] if disturbed else []
    victims = [Worker(_doomed, address, size) for size in groups if size]
    begin = time.monotonic() + chosen.settle
    end = begin - chosen.settle + chosen.seconds
    kills = 0
    while time.monotonic() < end:
        time.sleep(min(KILL_SECONDS, max(0.0, end - time.monotonic())))
        if victims and time.monotonic() < end:
            victim = victims.pop(0)
            victims.append(Worker(_doomed, address, victim.count))
            victim.process.kill()
            victim.process.join()
            kills += 1
    for victim in victims:
        victim.process.kill()
        victim.process.join()
        kills += 1
    if slow is not None:
        slow.end()
    return name, begin, end, kills


class Worker:
    """Clients in a process of their own, and a pipe to them.

    Args:
        task: what it runs, given the pipe, the address and the number of connections.
    """

    def __init__(self, task: Any, address: str, count: int) -> None:
        self.count = count
        self._pipe, theirs = CONTEXT.Pipe()
        self.process: BaseProcess = CONTEXT.Process(target=_run, args=(task, theirs, address, count))
        self.process.start()
        theirs.close()

    def begun(self) -> None:
        """Returns when all its connections are there."""
        self._pipe.recv()

    def tell(self, word: str) -> None:
        """Says something to it."""
        self._pipe.send(word)

    def end(self) -> Any:
        """Ends it: its result."""
        self._pipe.send("end")
        while (answer := self._pipe.recv()) == "begun":
            pass
        self.process.join()
        return answer


def _run(task: Any, pipe: Any, address: str, count: int) -> None:
    import uvloop

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if task in (_slow, _doomed):
        os.nice(NICENESS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        pipe.send(runner.run(task(pipe, address, count)))


class Orders:
    """What the parent wants: `running` is set unless it paused; `ended` once it is over."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self.running, self.ended = asyncio.Event(), asyncio.Event()
        self.running.set()
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while True:
            word = await asyncio.to_thread(self._pipe.recv)
            if word == "pause":
                self.running.clear()
            elif word == "go":
                self.running.set()
            else:
                self.ended.set()
                self.running.set()
                return


def _own(address: str, *options: tuple[str, int]) -> grpc.aio.Channel:
    """A channel with a connection of its own, by the published settings."""
    return grpc.aio.insecure_channel(
        address, options=[*channel_options(), ("grpc.use_local_subchannel_pool", 1), *options]
    )


def _prompt(source: random.Random) -> list[int]:
    return [source.randrange(5, VOCABULARY) for _ in range(PROMPT)]


async def _healthy(pipe: Any, address: str, count: int) -> tuple[Any, Any, list[str], int]:
    """Streams one after the other on each connection: when tokens came, the gaps before them, errors, the finished."""
    orders = Orders(pipe)
    stamps, gaps, errors, finished, begun = array("d"), array("d"), [], 0, 0

    async def one(number: int) -> None:
        nonlocal finished, begun
        source = random.Random(number)
        async with _own(address) as channel:
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            await channel.channel_ready()
            begun += 1
            if begun == count:
                pipe.send("begun")
            while not orders.ended.is_set():
                await orders.running.wait()
                request = generate_request(_prompt(source), max_tokens=OUTPUT, ignore_eos=True)
                last, tokens = None, 0
                try:
                    async for event in stub.Generate(request):
                        new = len(event.delta.token_ids)
                        if new:
                            now = time.monotonic()
                            if last is not None:
                                stamps.append(now)
                                gaps.append((now - last) / new)
                            last, tokens = now, tokens + new
                except grpc.aio.AioRpcError as error:
                    errors.append(f"{error.code().name}: {error.details()}")
                    continue
                if tokens == OUTPUT:
                    finished += 1
                else:
                    errors.append(f"{tokens} of {OUTPUT} tokens came")

    await asyncio.gather(*(one(number) for number in range(count)))
    return stamps, gaps, errors, finished


async def _idle(pipe: Any, address: str, count: int) -> list[str]:
    """Connections that ask for the models about every half minute."""
    orders = Orders(pipe)
    errors: list[str] = []
    channels = [_own(address) for _ in range(count)]
    for first in range(0, count, 50):
        await asyncio.gather(*(channel.channel_ready() for channel in channels[first : first + 50]))
    pipe.send("begun")
    source = random.Random(0)
    while not orders.ended.is_set() and channels:
        channel = source.choice(channels)
        try:
            await model_pb2_grpc.ModelServiceStub(channel).ListModels(ListModelsRequest(), timeout=60.0)
        except grpc.aio.AioRpcError as error:
            errors.append(f"idle connection, {error.code().name}: {error.details()}")
        await asyncio.sleep(30 / count)
    await asyncio.gather(*(channel.close() for channel in channels))
    return errors


async def _slow(pipe: Any, address: str, count: int) -> int:
    """Streams whose reader takes a message a second and whose window is small; how many messages it has read."""
    orders = Orders(pipe)
    read = 0

    async def one(number: int) -> None:
        nonlocal read
        source = random.Random(number)
        async with _own(address, ("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)) as channel:
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            while not orders.ended.is_set():
                request = generate_request(_prompt(source), max_tokens=LONG_OUTPUT, ignore_eos=True, logprobs=5)
                call: Any = stub.Generate(request)
                while await call.read() is not grpc.aio.EOF and not orders.ended.is_set():
                    read += 1
                    await asyncio.wait({asyncio.ensure_future(orders.ended.wait())}, timeout=1.0)
                call.cancel()

    await asyncio.gather(*(one(number) for number in range(count)))
    return read


async def _doomed(pipe: Any, address: str, count: int) -> None:
    """Streams that go on until the process is killed."""

    async def one(number: int) -> None:
        source = random.Random(number)
        async with _own(address) as channel:
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            while True:
                async for _ in stub.Generate(
                    generate_request(_prompt(source), max_tokens=LONG_OUTPUT, ignore_eos=True)
                ):
                    pass

    await asyncio.gather(*(one(number) for number in range(count)))


async def _empty(address: str) -> Any:
    """The server's figures once it has nothing to do."""
    async with AsyncLeptonClient(address) as client:
        async for stats in client.watch_stats(0.1):
            if not stats.running and not stats.waiting:
                return stats
    raise RuntimeError("the server has ended")


def _resident(*processes: psutil.Process) -> float:
    return float(sum(process.memory_info().rss for process in processes)) / 2**20


class Silence(threading.Thread):
    """A stream before an engine that says nothing for a minute; `outcome` is `stayed`, or why it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.outcome = "never began"

    def run(self) -> None:
        """Waits it out."""
        try:
            with stub_serving(0) as (address, _), LeptonClient(address, retry=False, timeout=SILENCE_SECONDS) as client:
                began = time.monotonic()
                try:
                    for _ in client.generate("x", max_tokens=1):
                        pass
                except LeptonClientError as error:
                    waited = time.monotonic() - began
                    late = waited >= SILENCE_SECONDS - 1 and error.code is grpc.StatusCode.DEADLINE_EXCEEDED
                    self.outcome = "stayed" if late else f"{error} after {waited:.0f} s"
        except RuntimeError as error:
            self.outcome = str(error)


if __name__ == "__main__":
    sys.exit(main())
