"""StatsService for the pods that kwok plays: real sockets on the pods' own addresses.

Run as a program inside the cluster's network namespace, it reads one JSON object a line from its standard input:
address -> figures, and serves them on the control port of each. `answer` says how a pod behaves: "figures", "late"
(after `delay` seconds), "never", "garbage" (bytes that are no message), "error", "closed" (no socket at all).
"""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from lepton.v1 import stats_pb2 as messages
from lepton.v1 import stats_pb2_grpc as services
from tests.cluster.control_plane import ControlPlane

CONTROL_PORT = 50052


@dataclass
class Figures:
    """What one pod says of itself; the load figures of `lepton.v1.Stats`, and how it answers at all."""

    running: int = 0
    waiting: int = 0
    rejected: int = 0
    finished: int = 0
    kv_blocks_total: int = 1000
    kv_blocks_referenced: int = 0
    max_running: int = 16
    service_seconds: float = 0.0
    draining: bool = False
    loading: bool = False
    answer: str = "figures"
    delay: float = 0.0


class Pods:
    """The test's side: say what the pods at which addresses answer."""

    def __init__(self, plane: ControlPlane) -> None:
        assert plane.namespace is not None, "pods' addresses exist in a network namespace only"
        self._process = subprocess.Popen(
            plane.command(sys.executable, "-m", "tests.cluster.pods"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        plane.janitor.process(self._process.pid)

    def set(self, figures: dict[str, Figures]) -> None:
        """From now on these addresses answer so; others stay as they were. Returns when it is so."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({address: asdict(found) for address, found in figures.items()}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line == "done\n", f"the pods said {line!r}"

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Servicer(services.StatsServiceServicer):
    """The service of one pod."""

    def __init__(self, figures: Figures) -> None:
        self.figures = figures
        self.start = time.time()

    async def GetStats(self, request: messages.GetStatsRequest, context: Any) -> messages.GetStatsResponse:
        await self._behave(context)
        return messages.GetStatsResponse(stats=self._stats())

    async def WatchStats(self, request: messages.WatchStatsRequest, context: Any) -> Any:
        while True:
            await self._behave(context)
            yield messages.WatchStatsResponse(stats=self._stats())
            await asyncio.sleep(request.interval.ToNanoseconds() / 1e9 or 1.0)

    async def _behave(self, context: Any) -> None:
        match self.figures.answer:
            case "late":
                await asyncio.sleep(self.figures.delay)
            case "never":
                await asyncio.Event().wait()
            case "error":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the engine is gone")

    def _stats(self) -> messages.Stats:
        found = self.figures
        stats = messages.Stats(
            model="tests",
            running=found.running,
            waiting=found.waiting,
            rejected=found.rejected,
            finished=found.finished,
            max_running=found.max_running,
            kv_blocks_total=found.kv_blocks_total,
            kv_blocks_referenced=found.kv_blocks_referenced,
            kv_blocks_free=found.kv_blocks_total - found.kv_blocks_referenced,
            kv_block_size=16,
            draining=found.draining,
            loading=found.loading,
        )
        stats.time.FromNanoseconds(time.time_ns())
        stats.start_time.FromNanoseconds(int(self.start * 1e9))
        if found.service_seconds:
            stats.mean_service_time.CopyFrom(Duration())
            stats.mean_service_time.FromNanoseconds(int(found.service_seconds * 1e9))
        return stats


async def _garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes that are no HTTP/2."""
    writer.write(b"\x00\xff lepton garbage \r\n" * 64)
    writer.close()


class Address:
    """What listens at one pod's address now."""

    def __init__(self) -> None:
        self.server: grpc.aio.Server | None = None
        self.raw: asyncio.Server | None = None
        self.servicer: Servicer | None = None

    async def become(self, address: str, figures: Figures) -> None:
        """Change to these figures, and to another kind of server where that is what they say."""
        serves = figures.answer not in ("garbage", "closed")
        if serves and self.servicer is not None:
            self.servicer.figures = figures
            return
        await self.close()
        if serves:
            self.servicer = Servicer(figures)
            self.server = grpc.aio.server()
            services.add_StatsServiceServicer_to_server(self.servicer, self.server)
            self.server.add_insecure_port(f"{address}:{CONTROL_PORT}")
            await self.server.start()
        elif figures.answer == "garbage":
            self.raw = await asyncio.start_server(_garbage, address, CONTROL_PORT)

    async def close(self) -> None:
        if self.server is not None:
            await self.server.stop(0)
        if self.raw is not None:
            self.raw.close()
        self.server = self.raw = self.servicer = None


async def main() -> None:
    """Obey until standard input closes."""
    lines = asyncio.StreamReader(limit=1 << 26)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    addresses: dict[str, Address] = {}
    while line := await lines.readline():
        for address, figures in json.loads(line).items():
            await addresses.setdefault(address, Address()).become(address, Figures(**figures))
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
