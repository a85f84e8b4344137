"""The engine's process is killed, fifty times, while streams run: how they end, when service is back, what is left.

`lepton serve` with the embedded model on free ports. For every kill a number of streams run; when each has its first
token, the engine's process gets SIGKILL. Every stream must end with UNAVAILABLE within two seconds, the named services
turn NOT_SERVING, and a new stream must run within the time that the model loads and ten seconds. File descriptors,
zombies, temporary folders and the front end's memory are counted before and after. Clients, front end and engine share
the machine's cores.
"""

import asyncio
import sys
import time
from dataclasses import dataclass, field

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks import common
from benchmarks.served import Held, Server, serving
from lepton.v1.generation_pb2 import GenerateRequest, GenerateResponse
from lepton.v1.generation_pb2_grpc import GenerationServiceStub
from lepton_service.client import generate_request

END_SECONDS = 2.0
BACK_SECONDS = 10.0
GENERATION = "lepton.v1.GenerationService"
NO_RETRIES = [("grpc.enable_retries", 0)]

Stream = grpc.aio.UnaryStreamCall[GenerateRequest, GenerateResponse]


@dataclass
class Kills:
    """What was seen.

    Attributes:
        statuses: of all streams. ends: seconds from the kill until the last of a kill's streams had ended. dark:
            seconds until health said NOT_SERVING. back: seconds until a new stream ran.
        before, after: what the server held when the first kill came and when service was back after the last.
    """

    statuses: list[str] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    dark: list[float] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    before: Held | None = None
    after: Held | None = None


async def first_token(channel: grpc.aio.Channel, prompt: int) -> Stream:
    """A stream that has begun to give tokens."""
    call = GenerationServiceStub(channel).Generate(generate_request([prompt % 1000 + 2] * 8, ignore_eos=True))
    while True:
        event = await call.read()
        if not isinstance(event, GenerateResponse):
            raise RuntimeError(f"the stream ended with {await call.code()}")
        if event.WhichOneof("event") == "delta":
            return call


async def ended(call: Stream) -> str:
    """The status that a stream ends with."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return str((await call.code()).name)


async def not_serving(channel: grpc.aio.Channel) -> float:
    """When health of the generation service is not SERVING, in `time.monotonic` seconds."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=GENERATION))
    while (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING:
        pass
    watch.cancel()
    return time.monotonic()


async def serves(channel: grpc.aio.Channel) -> None:
    """Returns when a new stream runs."""
    while True:
        try:
            call = await first_token(channel, 0)
        except (grpc.aio.AioRpcError, RuntimeError):
            await asyncio.sleep(0.02)
            continue
        call.cancel()
        return


async def kill(server: Server, times: int, streams: int, progress: bool = True) -> Kills:
    """Kills the engine of a server so many times while so many streams run."""
    seen = Kills()
    async with grpc.aio.insecure_channel(server.target, options=NO_RETRIES) as channel:
        await serves(channel)
        seen.before = server.held()
        for number in range(times):
            calls = await asyncio.gather(*(first_token(channel, number * streams + i) for i in range(streams)))
            engine = server.engine()
            assert engine is not None
            dark = asyncio.create_task(not_serving(channel))
            await asyncio.sleep(0.01)  # the watch has begun
            began = time.monotonic()
            engine.kill()
            seen.statuses += await asyncio.gather(*map(ended, calls))
            seen.ends.append(time.monotonic() - began)
            seen.dark.append(await dark - began)
            await serves(channel)
            seen.back.append(time.monotonic() - began)
            if progress:
                print(f"kill {number + 1}: ended in {seen.ends[-1]:.2f} s, back in {seen.back[-1]:.2f} s", flush=True)
        seen.after = server.held()
    return seen


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--kills", type=int, help="default: 50, 3 with --quick")
    parser.add_argument("--streams", type=int, default=32, help="that run at every kill")
    args = parser.parse_args()
    began = time.monotonic()
    with serving() as server:
        load = time.monotonic() - began
        seen = asyncio.run(kill(server, args.kills or (3 if args.quick else 50), args.streams))
    assert seen.before is not None
    assert seen.after is not None
    other = sum(status != "UNAVAILABLE" for status in seen.statuses)
    weights = "embedded bfloat16"
    figures = [
        ("streams that ended with another status than UNAVAILABLE", float(other), "streams"),
        ("last stream ended after, worst", max(seen.ends), "s"),
        ("NOT_SERVING after, worst", max(seen.dark), "s"),
        ("a new stream ran after, worst", max(seen.back), "s"),
        ("a new stream ran after, median", common.median(seen.back), "s"),
        ("start of the server until ready", load, "s"),
        ("file descriptors gained", float(seen.after.descriptors - seen.before.descriptors), ""),
        ("zombies at the end", float(seen.after.zombies), ""),
        ("temporary folders gained", float(seen.after.folders - seen.before.folders), ""),
        ("front end's memory at the first kill", seen.before.front_mb, "MiB"),
        ("front end's memory at the end", seen.after.front_mb, "MiB"),
    ]
    rows = [common.Row(work, common.LEPTON, weights, value, unit) for work, value, unit in figures]
    notes = [f"{len(seen.ends)} kills, {args.streams} streams at each"]
    common.report("The engine's process is killed", rows, args.json, notes)
    sound = not other and max(seen.ends) <= END_SECONDS and max(seen.back) <= load + BACK_SECONDS
    kept = seen.after.descriptors <= seen.before.descriptors + 2 and not seen.after.zombies
    return 0 if sound and kept and seen.after.folders == seen.before.folders else 1


if __name__ == "__main__":
    sys.exit(main())
