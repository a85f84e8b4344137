"""Readings of StatsService, whatever the pods answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from lepton.v1.stats_pb2 import GetStatsResponse, Stats
from lepton_operator import scrape
from lepton_operator.scrape import Scraper, kv_share, pod_load, service_seconds, target

METHOD = "GetStats"
Answer = Callable[[], Any]


class Servers:
    """Pods' control ports on loopback."""

    def __init__(self) -> None:
        self._servers: list[grpc.aio.Server] = []

    async def start(self, answer: Answer) -> str:
        """A server that answers so; its target."""

        async def handle(request: bytes, context: Any) -> bytes:
            found = answer()
            if asyncio.iscoroutine(found):
                found = await found
            if isinstance(found, grpc.StatusCode):
                await context.abort(found, "no")
            return bytes(found)

        server = grpc.aio.server()
        handler = grpc.method_handlers_generic_handler(
            "lepton.v1.StatsService", {METHOD: grpc.unary_unary_rpc_method_handler(handle)}
        )
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._servers.append(server)
        return f"127.0.0.1:{port}"

    async def close(self) -> None:
        for server in self._servers:
            await server.stop(None)


@pytest.fixture
async def servers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Servers]:
    monkeypatch.setattr(scrape, "target", lambda address: address)
    monkeypatch.setattr(scrape, "TIMEOUT", 0.3)
    made = Servers()
    yield made
    await made.close()


def encoded(**figures: Any) -> bytes:
    return GetStatsResponse(stats=Stats(**figures)).SerializeToString()


def pod_at(pod: Callable[..., Any], name: str, address: str) -> Any:
    import msgspec

    made = pod(name)
    return msgspec.structs.replace(made, status=msgspec.structs.replace(made.status, pod_ip=address))


async def test_only_pods_that_answer_in_time_and_sense_are_counted(servers: Servers, pod: Callable[..., Any]) -> None:
    async def late() -> bytes:
        await asyncio.sleep(5)
        return encoded(running=1)

    answers: dict[str, Answer] = {
        "good": lambda: encoded(running=3, waiting=2),
        "late": late,
        "garbage": lambda: b"\xff\xff\xff\xff",
        "empty": lambda: b"",
        "error": lambda: grpc.StatusCode.UNAVAILABLE,
    }
    pods = [pod_at(pod, name, await servers.start(answer)) for name, answer in answers.items()]
    pods.append(pod_at(pod, "closed", "127.0.0.1:1"))
    assert await Scraper.ask(pods) == {"good": 5}


async def test_pods_are_asked_again_and_again_until_they_are_not_wanted(
    servers: Servers, pod: Callable[..., Any]
) -> None:
    asked = 0

    def answer() -> bytes:
        nonlocal asked
        asked += 1
        return encoded(running=asked, draining=asked > 2)

    scraper = Scraper(0.01)
    made = pod_at(pod, "a", await servers.start(answer))
    scraper.watch([made])
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(5):
        while asked < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    reading = scraper.reading(made, loop.time())
    assert reading is not None
    assert reading.draining
    assert scraper.reading(made, loop.time() + scrape.FRESH + 1) is None, "an old answer does not count"
    scraper.watch([])
    assert scraper.reading(made, loop.time()) is None
    await scraper.close()


def test_figures_that_make_no_sense_are_bounded() -> None:
    assert kv_share(Stats(kv_blocks_total=10, kv_blocks_referenced=99)) == 1.0
    assert kv_share(Stats()) == 0.0
    stats = Stats()
    stats.mean_service_time.seconds = -5
    assert service_seconds(stats) == scrape.UNKNOWN_SERVICE_SECONDS


def test_what_arrives_is_what_ended_and_what_grew() -> None:
    before = Stats(running=5, waiting=0, finished=100, rejected=10)
    after = Stats(running=8, waiting=4, finished=120, rejected=30, aborted=1)
    after.mean_service_time.seconds = 2
    load = pod_load(before, after, 4.0)
    assert load.arrivals == pytest.approx((20 + 20 + 1 + 7) / 4)
    assert load.service == 2.0
    assert load.refused == pytest.approx(20 / 4 * 2)
    assert (load.streams, load.waiting) == (12, 4)
    assert pod_load(after, Stats(running=1), 1.0).arrivals is None, "a server that has finished nothing cannot tell"


def test_targets() -> None:
    assert target("10.1.2.3") == "ipv4:10.1.2.3:50052"
    assert target("fd00::1") == "ipv6:[fd00::1]:50052"
