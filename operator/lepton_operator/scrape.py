"""Asks the pods' StatsService for their load."""

import asyncio
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import DecodeError

from lepton.v1.stats_pb2 import GetStatsRequest, Stats
from lepton.v1.stats_pb2_grpc import StatsServiceStub
from lepton_operator.autoscale import PodLoad, refused_streams
from lepton_operator.desired.common import CONTROL_PORT
from lepton_operator.observed import Pod

if TYPE_CHECKING:
    from lepton.v1.stats_pb2_grpc import StatsServiceAsyncStub

TIMEOUT = 2.0
"""Seconds that a pod may take to answer."""
FRESH = 3.0
"""Seconds for which an answer counts."""
UNKNOWN_SERVICE_SECONDS = 1.0
"""Service time of a server that has finished nothing yet, for the refusals that it counts."""
_ENDED = ("finished", "aborted", "failed", "rejected")
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.use_local_subchannel_pool", 1),  # a new pod at an old address gets a connection of its own
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 64 * 1024),
)


@dataclass(frozen=True)
class Reading:
    """What a pod said, and when (in seconds of the event loop's clock)."""

    time: float
    load: PodLoad
    draining: bool


class _Poller:
    """Asks one pod at intervals."""

    def __init__(self, address: str, interval: float) -> None:
        self.address = address
        self.reading: Reading | None = None
        self._interval = interval
        self._last: tuple[float, Stats] | None = None
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        async with grpc.aio.insecure_channel(target(self.address), options=_OPTIONS) as channel:
            stub = StatsServiceStub(channel)
            while True:
                began = loop.time()
                stats = await _ask(stub)
                if stats is not None:
                    now = loop.time()
                    self.reading = Reading(now, self._load(now, stats), stats.draining)
                await asyncio.sleep(max(0.0, began + self._interval - loop.time()))

    def _load(self, now: float, stats: Stats) -> PodLoad:
        before, self._last = self._last, (now, stats)
        if before is None:
            return PodLoad(streams(stats), kv=kv_share(stats), waiting=float(stats.waiting))
        return pod_load(before[1], stats, now - before[0])


class Scraper:
    """Keeps asking the pods that it is told to."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._pollers: dict[str, _Poller] = {}

    def watch(self, pods: Iterable[Pod]) -> None:
        """From now on these pods are asked, and no others."""
        wanted = {pod.metadata.uid: pod.status.pod_ip for pod in pods if pod.status.pod_ip}
        for uid in [uid for uid, poller in self._pollers.items() if wanted.get(uid) != poller.address]:
            self._pollers.pop(uid).task.cancel()
        for uid, address in wanted.items():
            if uid not in self._pollers:
                self._pollers[uid] = _Poller(address, self._interval)

    def reading(self, pod: Pod, now: float) -> Reading | None:
        """What a pod said lately; None for one that is silent."""
        poller = self._pollers.get(pod.metadata.uid)
        found = None if poller is None else poller.reading
        return found if found is not None and now - found.time <= FRESH else None

    async def close(self) -> None:
        """Stops asking."""
        tasks = [poller.task for poller in self._pollers.values()]
        self.watch(())
        await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    async def ask(pods: Iterable[Pod]) -> Mapping[str, int]:
        """Asks some pods once; the streams of those that answer, by name."""

        async def one(pod: Pod) -> tuple[str, int | None]:
            async with grpc.aio.insecure_channel(target(pod.status.pod_ip), options=_OPTIONS) as channel:
                stats = await _ask(StatsServiceStub(channel))
            return pod.metadata.name, None if stats is None else round(streams(stats))

        answers = await asyncio.gather(*(one(pod) for pod in pods if pod.status.pod_ip))
        return {name: count for name, count in answers if count is not None}


async def _ask(stub: "StatsServiceAsyncStub") -> Stats | None:
    """A pod's figures; None for no answer, a failure, or bytes that are no message."""
    try:
        answer = await stub.GetStats(GetStatsRequest(), timeout=TIMEOUT)
    except (grpc.RpcError, DecodeError):
        return None
    # grpc gives None for bytes that it could not read.
    return answer.stats if answer is not None and answer.HasField("stats") else None


def pod_load(before: Stats, stats: Stats, seconds: float) -> PodLoad:
    """The load of a pod from two readings that are `seconds` apart."""
    refused = 0.0
    if stats.rejected != before.rejected:
        refused = refused_streams(before.rejected, stats.rejected, seconds, service_seconds(stats))
    arrivals = service = None
    if stats.HasField("mean_service_time") and seconds > 0:
        ended = sum(getattr(stats, name) - getattr(before, name) for name in _ENDED)
        arrivals = max(0.0, ended + streams(stats) - streams(before)) / seconds
        service = service_seconds(stats)
    return PodLoad(streams(stats), refused, kv_share(stats), arrivals, service, float(stats.waiting))


def target(address: str) -> str:
    """The gRPC target of a pod's control port."""
    return f"ipv6:[{address}]:{CONTROL_PORT}" if ":" in address else f"ipv4:{address}:{CONTROL_PORT}"


def streams(stats: Stats) -> float:
    """What runs and what waits."""
    return float(stats.running + stats.waiting)


def kv_share(stats: Stats) -> float:
    """Share of the KV blocks that requests reference, 0 to 1, whatever the figures say."""
    return min(1.0, stats.kv_blocks_referenced / stats.kv_blocks_total) if stats.kv_blocks_total else 0.0


def service_seconds(stats: Stats) -> float:
    """The mean service time."""
    if not stats.HasField("mean_service_time"):
        return UNKNOWN_SERVICE_SECONDS
    seconds = stats.mean_service_time.seconds + stats.mean_service_time.nanos / 1e9
    return seconds if 0 <= seconds < math.inf else UNKNOWN_SERVICE_SECONDS
