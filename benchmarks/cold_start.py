"""From process start to SERVING on the embedded model, and who takes how much memory, beside `import torch`.

Every round starts `python -c "import torch"`, then `lepton serve` on the embedded model and waits until health says
SERVING over gRPC, has it generate once, reads the peaks of its processes and ends it. The file cache is warm from a
round that does not count. Memory is bounded by what `import torch` takes in the same run + weights + KV budget +
200 MiB for the engine process, and by 120 MiB for the front end; the table shows these bounds beside the values.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks import common, plots
from lepton_engine import embedded
from lepton_service.client import AsyncLeptonClient

KV_MB, ALLOWANCE_MB, FRONT_MB, ALLOWANCE_S = 256, 200, 120, 2.0
SERVICE = "lepton.v1.GenerationService"
DEADLINE = 120.0
IMPORT = "import torch; print(next(x.split()[1] for x in open('/proc/self/status') if x.startswith('VmHWM:')))"
SERVE = "from lepton_service.cli import main; raise SystemExit(main())"


@dataclass(frozen=True)
class Start:
    """One start of the server: seconds to SERVING, peak resident MiB of its two processes."""

    seconds: float
    engine_mb: float
    front_mb: float


def import_torch() -> tuple[float, float]:
    """Seconds of a Python process that imports torch and ends, and its peak resident MiB."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True)
    return time.perf_counter() - began, int(done.stdout) / 1024


def peak_mb(pid: int) -> float:
    """Peak resident MiB of a process that runs."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no VmHWM in /proc/{pid}/status")


def wait_serving(address: str) -> None:
    """Return when health says SERVING."""
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        for answer in health_pb2_grpc.HealthStub(channel).Watch(request, timeout=DEADLINE, wait_for_ready=True):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
    raise RuntimeError("health ended before it said SERVING")


async def generate(address: str) -> None:
    """Some tokens, so that the peaks are those of an engine that has worked."""
    async with AsyncLeptonClient(address) as client:
        call = client.generate((2,) * 64, max_tokens=32, temperature=0.0, ignore_eos=True)
        async with call as stream:
            async for _ in stream:
                pass


def start(folder: str, threads: int) -> Start:
    """Start a server, measure it, end it.

    Raises:
        RuntimeError: it ended before it served; the message has what it said.
    """
    options = ["--port", "0", "--control-port", "0", "--drain-propagation", "0", "--num-threads", str(threads)]
    began = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, "serve", folder, *options, "--kv-cache-memory", str(KV_MB << 20)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    try:
        assert server.stderr is not None
        said = []
        for line in server.stderr:
            said.append(line)
            if found := re.search(r"inference on (\S+)", line):
                break
        else:
            raise RuntimeError("the server did not start: " + "".join(said))
        wait_serving(found.group(1))
        seconds = time.perf_counter() - began
        asyncio.run(generate(found.group(1)))
        children = psutil.Process(server.pid).children(recursive=True)
        return Start(seconds, max(peak_mb(child.pid) for child in children), peak_mb(server.pid))
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            server.kill()


def main() -> int:
    parser = common.parser(__doc__ or "", plot=True)
    parser.add_argument("--model", type=Path, default=embedded.path(), help="default: the embedded model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="default: 5, 1 with --quick")
    args = parser.parse_args()
    rounds = args.rounds or (1 if args.quick else 5)
    imports, starts = [], []
    for number in range(rounds + 1):
        imported, started = import_torch(), start(str(args.model), args.threads)
        if number:  # Round 0 warms the file cache.
            imports.append(imported)
            starts.append(started)
            print(
                f"round {number}: import torch {imported[0]:.2f} s, SERVING after {started.seconds:.2f} s", flush=True
            )
    weights_mb = sum(file.stat().st_size for file in args.model.glob("*.safetensors")) / (1 << 20)
    torch_s, torch_mb = (common.median(values) for values in zip(*imports, strict=True))
    versions = common.versions("torch", "lepton-engine", "lepton-service")
    over = common.median([s.seconds - i[0] for s, i in zip(starts, imports, strict=True)])
    bound = torch_mb + weights_mb + KV_MB + ALLOWANCE_MB
    figures = [
        ("start to SERVING", common.LEPTON, common.median([s.seconds for s in starts]), "s"),
        ("start to SERVING", "import torch", torch_s, "s"),
        ("start to SERVING", f"bound: import torch + {ALLOWANCE_S:.0f} s", torch_s + ALLOWANCE_S, "s"),
        ("engine process, peak", common.LEPTON, common.median([s.engine_mb for s in starts]), "MiB"),
        ("engine process, peak", "import torch", torch_mb, "MiB"),
        ("engine process, peak", "bound", bound, "MiB"),
        ("front-end process, peak", common.LEPTON, common.median([s.front_mb for s in starts]), "MiB"),
        ("front-end process, peak", "bound", FRONT_MB, "MiB"),
    ]
    rows = [
        common.Row(work, who, args.model.name, value, unit, versions=versions) for work, who, value, unit in figures
    ]
    common.compare(rows, higher_is_better=False)
    notes = [
        f"{args.threads} threads, medians of {rounds} rounds; SERVING {over:+.2f} s beside `import torch` of its round",
        f"bound of the engine process: {torch_mb:.0f} (import torch) + {weights_mb:.0f} (weights) + {KV_MB} (KV) + "
        f"{ALLOWANCE_MB} MiB",
        "lepton / it: above 1 is within it",
    ]
    common.report("Cold start", rows, args.json, notes)
    if args.plot is not None:
        plots.draw("Cold start", rows, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
