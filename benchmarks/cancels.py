"""A hundred thousand calls through the server, each cancelled at some point: what is left, and how the memory fares.

`lepton serve` with the embedded model on free ports, at most 16 sequences at once and 64 tokens a step. In rounds,
calls are brought to a point and cancelled there:

    before admission    right after the call was made, perhaps before the server has seen it
    queued              admitted while 16 endless streams hold every place
    mid-prefill         admitted with a prompt of 15 steps
    mid-write           with one to three messages read and more on their way
    after finish        with the last event read, before the status

Then nothing must run or wait, every KV block must be free, and the resident memory of front end and engine must be
within two percent of what it was after the first tenth: the medians of the first and of the last third of what was
measured since, a hundred times in all, are compared.
"""

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import grpc

from benchmarks import common
from benchmarks.served import Held, Server, serving
from lepton.v1.generation_pb2 import GenerateRequest
from lepton.v1.generation_pb2_grpc import GenerationServiceStub
from lepton.v1.stats_pb2 import GetStatsRequest, Stats
from lepton.v1.stats_pb2_grpc import StatsServiceStub
from lepton_service.client import generate_request

PLACES = 16
FLAGS = ("--max-num-seqs", str(PLACES), "--max-num-batched-tokens", "64", "--kv-cache-memory", "32MiB")
LONG_PROMPT = 64 * 15
ENDLESS = 1500
FLAT = 0.02
CHANNELS = 8
# Of each hundred.
SHARES = {"before admission": 30, "queued": 20, "mid-prefill": 20, "mid-write": 20, "after finish": 10}


@dataclass
class Cancels:
    """What was done and seen: cancels by kind, what the server held by cancels so far, its figures at the end."""

    counts: Counter[str] = field(default_factory=Counter)
    held: list[tuple[int, Held]] = field(default_factory=list)
    final: Stats | None = None
    seconds: float = 0.0

    def thirds(self, total: int) -> tuple[list[Held], list[Held]]:
        """What it held in the first and in the last third of the time from the first tenth on."""
        settled = [held for count, held in self.held if count >= total // 10]
        third = max(1, len(settled) // 3)
        return settled[:third], settled[-third:]


class Storm:
    """Makes calls and cancels them."""

    def __init__(self, channels: list[grpc.aio.Channel], seed: int) -> None:
        self._stubs = [GenerationServiceStub(channel) for channel in channels]
        self._stats = StatsServiceStub(channels[0])
        self._dice = random.Random(seed)
        self._made = 0

    def _call(self, prompt: int, tokens: int = ENDLESS) -> grpc.aio.UnaryStreamCall[GenerateRequest, object]:
        self._made += 1
        ids = [self._dice.randrange(2, 3000) for _ in range(prompt)]
        request = generate_request(ids, max_tokens=tokens, ignore_eos=True)
        return self._stubs[self._made % len(self._stubs)].Generate(request)  # type: ignore[return-value]

    async def _before_admission(self) -> bool:
        call = self._call(self._dice.randint(1, 200))
        for _ in range(self._dice.randint(0, 3)):  # the loop's turns in which it may get on its way
            await asyncio.sleep(0)
        return call.cancel()

    async def _queued(self) -> bool:
        call = self._call(self._dice.randint(1, 40), 4)
        await call.initial_metadata()
        return call.cancel()

    async def _mid_prefill(self) -> bool:
        call = self._call(LONG_PROMPT, 4)
        await call.initial_metadata()
        return call.cancel()

    async def _mid_write(self) -> bool:
        call = self._call(self._dice.randint(1, 40))
        for _ in range(self._dice.randint(1, 3) + 1):
            await call.read()
        return call.cancel()

    async def _after_finish(self) -> bool:
        call = self._call(self._dice.randint(1, 20), 2)
        while (event := await call.read()) is not grpc.aio.EOF:
            if event.WhichOneof("event") == "finished":  # type: ignore[attr-defined]
                return call.cancel() or True  # perhaps the status has come as well
        raise RuntimeError("a stream ended without having finished")

    async def round(self, size: int) -> Counter[str]:
        """About so many cancels, by kind."""
        works: dict[str, Callable[[], Coroutine[None, None, bool]]] = {
            "before admission": self._before_admission,
            "mid-write": self._mid_write,
            "after finish": self._after_finish,
            "mid-prefill": self._mid_prefill,
        }
        kinds = [kind for kind in works for _ in range(SHARES[kind] * size // 100)]
        self._dice.shuffle(kinds)
        done = await asyncio.gather(*(works[kind]() for kind in kinds))
        counts = Counter(kind for kind, cancelled in zip(kinds, done, strict=True) if cancelled)
        blockers = [self._call(1) for _ in range(PLACES)]
        for blocker in blockers:
            await blocker.read()
            await blocker.read()  # its first token
        done = await asyncio.gather(*(self._queued() for _ in range(SHARES["queued"] * size // 100)))
        running = [blocker for blocker in blockers if not blocker.done()]
        counts["queued" if len(running) == PLACES else "mid-write"] += sum(done)
        counts["mid-write"] += sum(blocker.cancel() for blocker in running)
        return counts

    async def at_rest(self) -> Stats:
        """The figures, once nothing runs or waits."""
        while True:
            stats: Stats = (await self._stats.GetStats(GetStatsRequest())).stats
            if not stats.running and not stats.waiting:
                return stats
            await asyncio.sleep(0.01)


async def cancel(server: Server, total: int, round_size: int = 200, seed: int = 0, progress: bool = True) -> Cancels:
    """Cancels so many calls of a server."""
    seen = Cancels()
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    channels = [grpc.aio.insecure_channel(server.target, options=options) for _ in range(CHANNELS)]
    storm = Storm(channels, seed)
    began = time.monotonic()
    step = max(1, total // 100)
    while (count := seen.counts.total()) < total:
        seen.counts += await storm.round(round_size)
        if seen.counts.total() // step > count // step:
            await storm.at_rest()
            held = server.held()
            seen.held.append((seen.counts.total(), held))
            if progress and len(seen.held) % 5 == 0:
                speed = seen.counts.total() / (time.monotonic() - began)
                mb = f"front end {held.front_mb:.1f}, engine {held.engine_mb:.1f} MiB"
                print(f"{seen.counts.total()} cancels, {speed:.0f}/s: {mb}", flush=True)
    seen.final = await storm.at_rest()
    seen.seconds = time.monotonic() - began
    for channel in channels:
        await channel.close()
    return seen


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--cancels", type=int, help="default: 100000, 2000 with --quick")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    total = args.cancels or (2000 if args.quick else 100_000)
    with serving(*FLAGS) as server:
        seen = asyncio.run(cancel(server, total, seed=args.seed))
    assert seen.final is not None
    early, late = seen.thirds(total)
    front = [common.median([held.front_mb for held in third]) for third in (early, late)]
    engine = [common.median([held.engine_mb for held in third]) for third in (early, late)]
    grown = {"front end": front[1] / front[0] - 1, "engine": engine[1] / engine[0] - 1}
    gained = late[-1].descriptors - early[0].descriptors
    weights = "embedded bfloat16"
    rows = [common.Row(f"cancelled {kind}", common.LEPTON, weights, seen.counts[kind], "calls") for kind in SHARES]
    rows += [
        common.Row("running + waiting at the end", common.LEPTON, weights, seen.final.running + seen.final.waiting, ""),
        common.Row("KV blocks referenced at the end", common.LEPTON, weights, seen.final.kv_blocks_referenced, ""),
        common.Row("front end, after the first tenth", common.LEPTON, weights, front[0], "MiB"),
        common.Row("front end, at the end", common.LEPTON, weights, front[1], "MiB"),
        common.Row("engine, after the first tenth", common.LEPTON, weights, engine[0], "MiB"),
        common.Row("engine, at the end", common.LEPTON, weights, engine[1], "MiB"),
        common.Row("file descriptors gained", common.LEPTON, weights, gained, ""),
    ]
    notes = [
        f"{seen.counts.total()} cancels in {seen.seconds:.0f} s; {seen.final.aborted} requests had reached the engine",
        *(f"resident memory of the {name}: {growth:+.2%}" for name, growth in grown.items()),
    ]
    common.report("Cancels through the server", rows, args.json, notes)
    sound = not seen.final.kv_blocks_referenced and seen.final.kv_blocks_free == seen.final.kv_blocks_total
    flat = args.quick or max(map(abs, grown.values())) <= FLAT
    return 0 if sound and flat and all(seen.counts[kind] for kind in SHARES) else 1


if __name__ == "__main__":
    sys.exit(main())
