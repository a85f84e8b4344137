"""Several front ends before one engine: one truth, one port, and what happens when one of them, or the engine, dies."""

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import psutil
import pytest

from lepton.v1.generation_pb2_grpc import GenerationServiceStub
from lepton.v1.stats_pb2 import GetStatsRequest, Stats
from lepton.v1.stats_pb2_grpc import StatsServiceStub
from lepton_service.client import LeptonClient, UnavailableError, generate_request
from tests.service.e2e.serving import Serving, gone, lepton, start

COUNT = 3
MEMBER_MIB = 120


class Connection:
    """A connection of its own, and which front end it is to."""

    def __init__(self, server: Serving) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        self.channel = grpc.insecure_channel(server.target, options=options)
        grpc.channel_ready_future(self.channel).result()
        self.generation = GenerationServiceStub(self.channel)

    def stats(self) -> Stats:
        stats: Stats = StatsServiceStub(self.channel).GetStats(GetStatsRequest()).stats
        return stats


def members(server: Serving) -> list[psutil.Process]:
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if "frontends.member" in " ".join(child.cmdline())]


def front_ends(server: Serving) -> list[psutil.Process]:
    return [psutil.Process(server.process.pid), *members(server)]


def connected(process: psutil.Process, port: int) -> int:
    """How many connections to the port the process has accepted."""
    return sum(
        c.status == psutil.CONN_ESTABLISHED and c.laddr.port == port for c in process.net_connections(kind="tcp")
    )


def connect_to_each(server: Serving, stack: ExitStack) -> dict[int, Connection]:
    """A connection to each front end, by process id. The kernel deals them out, so there may be some more."""
    port = int(server.target.rpartition(":")[2])
    processes = front_ends(server)
    found: dict[int, Connection] = {}
    while len(found) < len(processes):
        before = {process.pid: connected(process, port) for process in processes}
        connection = Connection(server)
        stack.callback(connection.channel.close)
        while not (grown := [p.pid for p in processes if connected(p, port) > before[p.pid]]):
            pass
        found.setdefault(grown[0], connection)
    return found


def at_rest(connection: Connection) -> Stats:
    while True:
        stats = connection.stats()
        if stats.running == stats.waiting == 0 and stats.kv_blocks_free == stats.kv_blocks_total:
            return stats


@pytest.fixture(scope="module")
def several(tiny: Path) -> Iterator[Serving]:
    """A server of several front ends, all of which serve."""
    server = start(tiny, "--frontends", str(COUNT))
    server.ready()
    server.wait_for(r"front end (\d+) serves", times=COUNT - 1)
    yield server
    server.process.send_signal(signal.SIGTERM)
    assert server.finish() == 0, server.log
    assert "Traceback" not in server.log


@pytest.fixture
def each(several: Serving) -> Iterator[dict[int, Connection]]:
    with ExitStack() as stack:
        yield connect_to_each(several, stack)


def test_every_front_end_serves_and_tells_the_same_figures(several: Serving, each: dict[int, Connection]) -> None:
    assert len(each) == COUNT
    for connection in each.values():
        events = list(connection.generation.Generate(generate_request([5] * 9, max_tokens=7, ignore_eos=True)))
        assert sum(len(event.delta.token_ids) for event in events) == 7
    figures = [connection.stats() for connection in each.values()]
    for stats in figures:
        for changing in ("time", "uptime", "generated_tokens_per_second", "prompt_tokens_per_second"):
            stats.ClearField(changing)
    assert figures[1:] == figures[:-1]
    with LeptonClient(several.control) as control:
        assert control.stats().finished == figures[0].finished


def test_front_ends_have_no_torch_and_little_memory(several: Serving) -> None:
    for process in members(several):
        assert not [area.path for area in process.memory_maps() if "torch" in area.path]
        resident = process.memory_info().rss / 2**20
        print(f"a front end's resident memory: {resident:.0f} MiB")
        assert resident <= MEMBER_MIB


def test_a_request_id_is_in_use_at_every_front_end(several: Serving, each: dict[int, Connection]) -> None:
    first, *others = each.values()
    request = generate_request([5] * 9, ignore_eos=True)
    request.request_id = "the-one"
    stream = first.generation.Generate(request)
    next(stream)
    for connection in others:
        with pytest.raises(grpc.RpcError) as caught:
            next(connection.generation.Generate(request))
        assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS
    stream.cancel()
    at_rest(first)


def test_a_front_end_that_is_killed_is_started_again_and_its_requests_end(
    several: Serving, each: dict[int, Connection]
) -> None:
    victim = members(several)[0]
    lost = each[victim.pid].generation.Generate(generate_request([5] * 9, ignore_eos=True, n=2))
    next(lost)
    survivor = next(connection for pid, connection in each.items() if pid != victim.pid)
    kept = survivor.generation.Generate(generate_request([6] * 9, ignore_eos=True, max_tokens=1500))
    next(kept)
    victim.kill()
    with pytest.raises(grpc.RpcError) as caught:
        list(lost)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert sum(len(event.delta.token_ids) for event in kept) > 1400
    stats = at_rest(survivor)
    assert stats.aborted > 0
    several.wait_for(r"front end (\d+) serves", times=COUNT)
    assert len(members(several)) == COUNT - 1
    with ExitStack() as stack:
        for connection in connect_to_each(several, stack).values():
            list(connection.generation.Generate(generate_request([5] * 9, max_tokens=2)))


@pytest.mark.parametrize("flags", [(), ("--frontends", "2")])
def test_another_server_does_not_get_a_share_of_the_port(several: Serving, flags: tuple[str, ...]) -> None:
    port = several.target.rpartition(":")[2]
    other = lepton("serve", "--port", port, "--control-port", "0", *flags)
    assert other.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in other.stderr


def test_a_port_in_use_is_an_error_for_several_front_ends() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = lepton("serve", "--port", str(port), "--control-port", "0", "--frontends", "2")
    assert other.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in other.stderr


def test_a_number_of_front_ends_out_of_range_is_explained() -> None:
    for number in ("0", "65"):
        found = lepton("serve", "--frontends", number)
        assert found.returncode == 2
        assert "allowed is 1 to 64" in found.stderr


def test_an_engine_that_dies_is_noticed_at_every_front_end_and_started_again(
    several: Serving, each: dict[int, Connection]
) -> None:
    before = several.log.count("serves (pid")
    (engine,) = several.engines()
    streams = [c.generation.Generate(generate_request([5] * 9, ignore_eos=True, n=4)) for c in each.values()]
    for stream in streams:
        next(stream)
    engine.suspend()
    engine.kill()
    for stream in streams:
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    several.wait_for(r"(is ready)", times=2)
    several.wait_for(r"front end (\d+) serves", times=before + COUNT - 1)
    for connection in each.values():
        list(connection.generation.Generate(generate_request([5] * 9, max_tokens=2)))
    at_rest(connection)


def test_a_drain_waits_for_the_streams_of_every_front_end(tiny: Path) -> None:
    server = start(tiny, "--frontends", "2")
    server.ready()
    server.wait_for(r"front end (\d+) serves")
    children = [*members(server), *server.engines()]
    with ExitStack() as stack:
        each = connect_to_each(server, stack)
        request = generate_request([5] * 9, ignore_eos=True, max_tokens=400)
        streams = [connection.generation.Generate(request) for connection in each.values()]
        for stream in streams:
            next(stream)
        server.process.send_signal(signal.SIGTERM)
        for stream in streams:
            assert sum(len(event.delta.token_ids) for event in stream) >= 399
    assert server.finish() == 0, server.log
    assert all(gone(child) for child in children)
    assert "Traceback" not in server.log


def test_a_second_sigterm_ends_every_front_end_at_once(tiny: Path) -> None:
    server = start(tiny, "--frontends", "2", "--drain-propagation", "1000")
    server.ready()
    server.wait_for(r"front end (\d+) serves")
    children = [*members(server), *server.engines()]
    with LeptonClient(server.target) as client, client.generate("hello", max_tokens=2000, ignore_eos=True) as stream:
        next(iter(stream))
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(r"(draining)", times=2)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(UnavailableError):
            for _ in stream:
                pass
        assert server.finish() == 143
    assert all(gone(child) for child in children)


def test_a_first_front_end_that_is_killed_takes_all_along(tiny: Path) -> None:
    server = start(tiny, "--frontends", "2")
    server.ready()
    server.wait_for(r"front end (\d+) serves")
    children = [*members(server), *server.engines()]
    server.process.kill()
    server.finish()
    psutil.wait_procs(children)
    assert all(gone(child) for child in children)
