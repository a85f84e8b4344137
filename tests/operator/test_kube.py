"""Queue, indices, decoding, the client's manners, the Lease: the I/O without a cluster.

The server here answers what a test tells it to; what the API server makes of requests is tested in tests/cluster.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from lepton_operator import names
from lepton_operator.kube.access import Access, AccessError, find_access, from_kubeconfig
from lepton_operator.kube.client import ApiError, Client
from lepton_operator.kube.decode import decode
from lepton_operator.kube.lease import Leadership, LostLeaseError
from lepton_operator.kube.resources import BY_KIND, MODELS, PODS
from lepton_operator.kube.store import Store
from lepton_operator.kube.watch import Watcher
from lepton_operator.observed import Child, Model, Object, Pod, Unreadable
from lepton_operator.queue import KeyedQueue
from lepton_operator.settings import LeaseSettings


async def test_a_key_is_queued_once_and_never_worked_on_twice() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("a")
    queue.add("a")
    assert (await queue.take())[0] == "a"
    queue.add("a")
    assert len(queue) == 0, "while it is worked on it waits"
    queue.done("a")
    assert len(queue) == 1
    assert (await queue.take())[0] == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_failures_wait_longer_and_longer() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    waits = [queue.failed("a") for _ in range(12)]
    assert waits[0] < 0.5
    assert waits[4] > waits[0]
    assert max(waits) <= 75
    queue.succeeded("a")
    assert queue.failed("a") < 0.5


async def test_a_later_key_comes_when_it_is_due() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add_after("late", 0.05)
    queue.add("now")
    assert (await queue.take())[0] == "now"
    assert (await queue.take())[0] == "late"


def an_object(name: str, version: int, uid: str = "u", model: str = "m") -> Object:
    metadata = {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": str(version)}
    return msgspec.convert({"metadata": {**metadata, "labels": {names.MODEL: model}}}, Object)


def test_an_index_keeps_the_newest() -> None:
    told: list[tuple[str, str]] = []
    store = Store(told.append)
    store.put(an_object("a", 10))
    store.put(an_object("a", 9))
    assert told == [("ns", "m")]
    assert [o.metadata.resource_version for o in store.of(("ns", "m"))] == ["10"]
    store.remove(an_object("a", 11))
    store.put(an_object("a", 10))  # An answer that comes after the deletion.
    assert not store.of(("ns", "m"))
    store.put(an_object("a", 12, uid="v"))
    assert len(store) == 1


def test_a_list_replaces_what_it_lacks() -> None:
    store = Store(lambda key: None)
    for name in "abc":
        store.put(an_object(name, 1, uid=name))
    store.replace([an_object("b", 2, uid="b")], None, "2")
    assert store.names() == [("ns", "b")]
    store.replace([], "other", "3")
    assert len(store) == 1, "another namespace's list says nothing of this one"


def test_a_list_does_not_remove_what_is_newer_than_it() -> None:
    store = Store(lambda _: None)
    store.put(an_object("made", 7, uid="made"))  # The answer to a write that came while the list was on its way.
    store.put(an_object("old", 5, uid="old"))
    store.replace([], None, "6")
    assert store.names() == [("ns", "made")]
    store.put(an_object("made", 8, uid="made"))
    found = store.get("ns", "made")
    assert found is not None
    assert found.metadata.resource_version == "8"


def test_objects_are_pruned() -> None:
    body = {
        "apiVersion": "v1", "kind": "Service", "status": {"loadBalancer": {}}, "spec": {"clusterIP": "None"},
        "metadata": {"name": "a", "uid": "u", "managedFields": [{"manager": "x" * 1000}], "labels": {"l": "1"}},
    }  # fmt: skip
    found = decode(Child, json.dumps(body).encode())
    assert isinstance(found, Child)
    assert json.loads(found.raw) == {"metadata": {"labels": {"l": "1"}}, "spec": {"clusterIP": "None"}}


def test_a_model_of_another_version_is_not_fatal() -> None:
    spec = {"model": {"source": {"embedded": {}}}, "newField": {"x": 1}}
    found = decode(Model, json.dumps({"metadata": {"name": "a"}, "spec": spec}).encode())
    assert isinstance(found, Model)
    odd = {"metadata": {"name": "a", "generation": 3}, "spec": {"model": 5}, "status": {"observedGeneration": 2}}
    unreadable = decode(Model, json.dumps(odd).encode())
    assert isinstance(unreadable, Unreadable)
    assert unreadable.status.observed_generation == 2
    assert "model" in unreadable.problem


Handler = Callable[[web.Request], Any]


class FakeServer:
    """Answers by a function; notes what was asked."""

    def __init__(self) -> None:
        self.handler: Handler = lambda request: web.json_response({})
        self.seen: list[tuple[str, str]] = []
        self.access = Access("", None, lambda: "secret")
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path))
        assert request.headers["Authorization"] == "Bearer secret"
        found = self.handler(request)
        answer: web.StreamResponse = await found if asyncio.iscoroutine(found) else found
        return answer

    async def start(self) -> None:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.access = Access(f"http://127.0.0.1:{self._runner.addresses[0][1]}", None, lambda: "secret")

    async def close(self) -> None:
        await self._runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    made = FakeServer()
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[Client]:
    made = Client(server.access, "me", lambda: None)
    yield made
    await made.close()


def refusal(status: int, reason: str, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "reason": reason, "message": message}, status=status)


async def test_throttling_is_obeyed(server: FakeServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await real(0)

    monkeypatch.setattr("lepton_operator.kube.client.asyncio.sleep", sleep)
    answers = iter([429, 429, 200])

    def handler(request: web.Request) -> web.Response:
        return web.json_response({}, status=next(answers), headers={"Retry-After": "2"})

    server.handler = handler
    await client.get("/x")
    assert len(waits) == 2
    assert all(1 <= wait <= 3 for wait in waits)
    server.handler = lambda request: refusal(429, "TooManyRequests", "slow down")
    with pytest.raises(ApiError, match="slow down"):
        await client.get("/x")


async def test_a_refusal_is_told_in_the_servers_words(server: FakeServer, client: Client) -> None:
    server.handler = lambda request: refusal(422, "Invalid", "spec.x: must be y")
    with pytest.raises(ApiError, match=r"spec\.x: must be y") as caught:
        await client.merge("/x", {})
    assert (caught.value.status, caught.value.reason) == (422, "Invalid")


async def test_a_server_that_is_silent_is_given_up(
    server: FakeServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lepton_operator.kube.client.REQUEST_TIMEOUT", 0.05)

    async def never(request: web.Request) -> web.Response:
        await asyncio.sleep(1)
        return web.json_response({})

    server.handler = never
    with pytest.raises(ApiError) as caught:
        await client.get("/x")
    assert caught.value.status == 0


async def test_every_write_asks_the_gate_and_no_read_does(server: FakeServer) -> None:
    def closed() -> None:
        raise LostLeaseError("no")

    client = Client(server.access, "me", closed)
    manifest = {"metadata": {"name": "a", "namespace": "ns"}}
    service = BY_KIND["Service"]
    writes: list[Callable[[], Any]] = [
        lambda: client.apply(service, manifest, force=True),
        lambda: client.merge("/x", {}),
        lambda: client.create("/x", {}),
        lambda: client.replace("/x", {}),
        lambda: client.delete("/x", "uid"),
    ]
    for write in writes:
        with pytest.raises(LostLeaseError):
            await write()
    assert server.seen == []
    await client.get("/x")
    await client.close()


def event(kind: str, found: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": found}).encode() + b"\n"


def pod_json(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": str(version)}}


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_watch_lists_in_pages_follows_and_lists_again_when_it_is_too_old(
    server: FakeServer, client: Client
) -> None:
    lists, watches = [], []

    async def handler(request: web.Request) -> web.StreamResponse:
        query = request.query
        if "watch" not in query:
            lists.append(query.get("continue", ""))
            if query.get("continue"):
                return web.json_response({"metadata": {"resourceVersion": "5"}, "items": [pod_json("b", 2)]})
            return web.json_response(
                {"metadata": {"resourceVersion": "5", "continue": "t"}, "items": [pod_json("a", 1)]}
            )
        watches.append(query["resourceVersion"])
        stream = web.StreamResponse()
        await stream.prepare(request)
        if len(watches) == 1:
            whole = event("ADDED", pod_json("c", 6)) + event("DELETED", pod_json("a", 7))
            await stream.write(whole[:30])
            await stream.write(whole[30:])
            await stream.write(event("BOOKMARK", {"metadata": {"resourceVersion": "9"}}))
        elif len(watches) == 2:
            await stream.write(event("ERROR", {"code": 410, "reason": "Expired", "message": "too old"}))
        else:
            await asyncio.sleep(30)
        return stream

    server.handler = handler
    store = Store(lambda key: None)
    task = asyncio.create_task(Watcher(client, PODS, store).run())
    await until(lambda: len(watches) == 3)
    task.cancel()
    assert watches == ["5", "9", "5"]
    assert lists == ["", "t", "", "t"]
    assert isinstance(store.get("ns", "b"), Pod)


async def test_an_api_that_is_missing_is_no_failure_when_it_is_optional(server: FakeServer, client: Client) -> None:
    server.handler = lambda request: refusal(404, "NotFound", "no such API")
    watcher = Watcher(client, MODELS, Store(lambda key: None), optional=True)
    task = asyncio.create_task(watcher.run())
    await until(watcher.synced.is_set)
    assert not watcher.available
    task.cancel()


class Clock:
    """A clock in the test's hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("lepton_operator.kube.lease.clock", lambda: self.now)


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class LeaseServer:
    """One Lease with optimistic locking."""

    def __init__(self, server: FakeServer) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        server.handler = self.answer

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "GET":
            if self.lease is None:
                return refusal(404, "NotFound", "no Lease")
            return web.json_response(self.lease)
        body = await request.json()
        if request.method == "PUT" and body["metadata"]["resourceVersion"] != str(self.version):
            return refusal(409, "Conflict", "changed")
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.lease = body
        return web.json_response(body)


SETTINGS = LeaseSettings(duration=15, renew_deadline=10, retry_period=0.01)


async def test_the_first_leads_and_checks_by_its_clock(server: FakeServer, client: Client, ticking: Clock) -> None:
    state = LeaseServer(server)
    leader = Leadership(SETTINGS, "a", "ns")
    with pytest.raises(LostLeaseError):
        leader.check()
    await leader.acquire(client)
    leader.check()
    assert state.lease is not None
    assert "." in state.lease["spec"]["renewTime"], "whole seconds could not be renewed"
    ticking.now += 9.9
    leader.check()
    ticking.now += 0.2
    with pytest.raises(LostLeaseError):
        leader.check()


async def test_another_waits_for_the_duration(server: FakeServer, client: Client, ticking: Clock) -> None:
    state = LeaseServer(server)
    first, second = Leadership(SETTINGS, "a", "ns"), Leadership(SETTINGS, "b", "ns")
    await first.acquire(client)
    task = asyncio.create_task(second.acquire(client))
    await until(lambda: len(server.seen) > 6)
    ticking.now += 14.9
    await until(lambda: len(server.seen) > 10)
    assert not second.held
    ticking.now += 0.2
    await asyncio.wait_for(task, 5)
    assert second.held
    assert not first.held
    assert state.lease is not None
    assert state.lease["spec"]["leaseTransitions"] == 1
    # The first, when it wakes up, ends and does not take it back.
    with pytest.raises(LostLeaseError):
        await first.keep(client)


async def test_a_lease_that_was_taken_is_lost(server: FakeServer, client: Client, ticking: Clock) -> None:
    state = LeaseServer(server)
    leader = Leadership(SETTINGS, "a", "ns")
    await leader.acquire(client)
    assert state.lease is not None
    state.lease["spec"]["holderIdentity"] = "thief"
    state.version += 1
    state.lease["metadata"]["resourceVersion"] = str(state.version)
    with pytest.raises(LostLeaseError, match="thief"):
        await leader.keep(client)
    assert not leader.held


async def test_a_lease_that_cannot_be_renewed_is_lost(server: FakeServer, client: Client, ticking: Clock) -> None:
    LeaseServer(server)
    leader = Leadership(SETTINGS, "a", "ns")
    await leader.acquire(client)

    def failing(request: web.Request) -> web.Response:
        ticking.now += 3
        return refusal(500, "InternalError", "no")

    server.handler = failing
    with pytest.raises(LostLeaseError):
        await leader.keep(client)


async def test_a_released_lease_is_free_at_once(server: FakeServer, client: Client, ticking: Clock) -> None:
    LeaseServer(server)
    first, second = Leadership(SETTINGS, "a", "ns"), Leadership(SETTINGS, "b", "ns")
    await first.acquire(client)
    await first.release(client)
    assert not first.held
    await asyncio.wait_for(second.acquire(client), 5)
    assert second.held


def test_lease_times_must_rise() -> None:
    with pytest.raises(ValueError, match="must rise"):
        LeaseSettings(duration=5, renew_deadline=10).check()
    with pytest.raises(ValueError, match="must exceed"):
        LeaseSettings(duration=5, renew_deadline=4, retry_period=1).check()
    LeaseSettings().check()


def test_kubeconfigs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    text = """
current-context: a
contexts: [{name: a, context: {cluster: c, user: u, namespace: team}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1/"}}]
users: [{name: u, user: {tokenFile: token}}]
"""
    config.write_text(text)
    (tmp_path / "token").write_text("t1\n")
    access = from_kubeconfig(config)
    assert (access.server, access.token(), access.namespace) == ("http://127.0.0.1:1", "t1", "team")
    with pytest.raises(AccessError, match="'b'"):
        from_kubeconfig(config, "b")
    config.write_text("[1, 2]")
    with pytest.raises(AccessError, match="no kubeconfig"):
        from_kubeconfig(config)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(AccessError, match="there is no kubeconfig"):
        find_access()


def test_a_credential_plugin(tmp_path: Path) -> None:
    config = tmp_path / "config"
    plugin = json.dumps({"status": {"token": "from-plugin"}})
    users = [{"name": "u", "user": {"exec": {"command": "echo", "args": [plugin]}}}]
    contexts = [{"name": "a", "context": {"cluster": "c", "user": "u"}}]
    clusters = [{"name": "c", "cluster": {"server": "http://x"}}]
    config.write_text(json.dumps({"current-context": "a", "contexts": contexts, "clusters": clusters, "users": users}))
    assert from_kubeconfig(config).token() == "from-plugin"
