"""Many concurrent streams through gRPC beside the same requests in process.

The same prompts, 256 at once by default, go through `LeptonEngine.generate` in process and through `lepton serve` as
one stream each. Clients, server and engine share the machine's cores; the client's and the front end's processor time
are reported apart. Greedy, end-of-sequence ignored, loading and a warm-up excluded; rounds alternate.
"""

import asyncio
import random
import sys
import time

import psutil

from benchmarks import common
from benchmarks.served import serving
from benchmarks.shapes import SHAPES, checkpoint
from benchmarks.systems import lepton
from benchmarks.systems.process import SystemProcess
from benchmarks.works import Work
from lepton_service.client import AsyncLeptonClient

KV_BYTES = 2 << 30


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="default: 135M, tiny with --quick")
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--prompt", type=int, default=32, help="tokens of each prompt")
    parser.add_argument("--output", type=int, help="tokens of each output; default: 64, 8 with --quick")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="default: 5, 1 with --quick")
    args = parser.parse_args()
    shape = args.shape or ("tiny" if args.quick else "135M")
    rounds = args.rounds or (1 if args.quick else 5)
    output = args.output or (8 if args.quick else 64)
    folder = checkpoint(shape)
    rng = random.Random(0)
    in_process, through, client_cpu, front_cpu = [], [], [], []
    arguments = {"folder": folder, "threads": args.threads}
    # The engine of one side idles while the other works; idle threads sleep.
    with (
        SystemProcess("in process", lepton.make, arguments, args.threads) as engine,
        serving("--kv-cache-memory", str(KV_BYTES), model=folder, threads=args.threads) as server,
    ):
        for round_number in range(rounds + 1):
            count = 8 if round_number == 0 else args.streams
            prompts = [
                tuple(rng.randrange(2, SHAPES[shape].vocab_size) for _ in range(args.prompt)) for _ in range(count)
            ]
            work = Work("streams", tuple(prompts), (output,) * count)
            alone, _ = engine.run(work)
            own, front = time.process_time(), cpu_seconds(server.front)
            streamed = asyncio.run(stream_all(server.target, work))
            if round_number == 0:
                continue
            in_process.append(work.generated / alone)
            through.append(work.generated / streamed)
            client_cpu.append(time.process_time() - own)
            front_cpu.append(cpu_seconds(server.front) - front)
            print(f"round {round_number}: in process {in_process[-1]:.1f}, through gRPC {through[-1]:.1f} tok/s")
    weights = f"{shape} bfloat16"
    name = f"{args.streams} streams, {args.prompt}+{output}"
    rows = [
        common.Row(name, common.LEPTON + " in process", weights, common.median(in_process), "tok/s"),
        common.Row(name, common.LEPTON + " through gRPC", weights, common.median(through), "tok/s"),
    ]
    ratio = common.median([grpc / alone for grpc, alone in zip(through, in_process, strict=True)])
    notes = [
        f"through gRPC: {ratio:.3f} of in process, median of {rounds} rounds, {args.threads} threads; no stream failed",
        f"processor time a round: client {common.median(client_cpu):.1f} s, front end {common.median(front_cpu):.1f} s",
    ]
    common.report("Streams", rows, args.json, notes)
    return 0


def cpu_seconds(process: psutil.Process) -> float:
    """Processor time of the process itself, its children apart."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def stream_all(address: str, work: Work) -> float:
    """Seconds until every stream has ended; a stream that fails or comes up short raises."""
    async with AsyncLeptonClient(address) as client:

        async def one(prompt: tuple[int, ...], count: int) -> None:
            call = client.generate(prompt, max_tokens=count, temperature=0.0, ignore_eos=True, return_token_ids=True)
            received = 0
            async with call as stream:
                async for event in stream:
                    received += len(event.delta.token_ids)
            if received != count:
                raise RuntimeError(f"{received} tokens came, {count} were asked for")

        began = time.perf_counter()
        await asyncio.gather(*(one(p, n) for p, n in zip(work.prompts, work.outputs, strict=True)))
        return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
