"""Ports, TLS files, and options that gRPC Core takes by name: asserted by what they do."""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from lepton.v1 import generation_pb2_grpc
from lepton_engine.errors import ModelLoadError
from lepton_service.app import EXIT_FAILED, FrontEnd
from lepton_service.client import (
    AsyncLeptonClient,
    ChannelTLS,
    UnavailableError,
    channel_options,
    generate_request,
)
from lepton_service.options import ServerOptions, TLSFiles
from lepton_service.server import PortInUseError
from lepton_service.tls import TLSError

Run = Callable[..., Any]


async def never() -> Any:
    raise AssertionError("nothing is loaded")


async def test_a_port_in_use_is_an_error_that_names_it(running: Any) -> None:
    port = int(running.target.rpartition(":")[2])
    front = FrontEnd(ServerOptions(port=port, control_port=0), "m", never)
    with pytest.raises(PortInUseError, match=str(port)):
        await front.start()


async def test_an_address_that_is_not_ours_is_an_error() -> None:
    front = FrontEnd(ServerOptions(host="192.0.2.1", port=0, control_port=0), "m", never)
    with pytest.raises(PortInUseError, match=r"192\.0\.2\.1"):
        await front.start()


async def test_a_model_that_does_not_load_ends_the_server(run_front: Run, fake_engine: Any) -> None:
    engine = fake_engine()
    engine.load_error = ModelLoadError("model.safetensors: is missing")
    async with run_front(engine, ready=False) as running:
        assert await running.life == EXIT_FAILED


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, and a server's and a client's certificate signed by it; and one of a stranger."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for authority in ("ca", "stranger"):
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-keyout", f"{authority}.key", "-out", f"{authority}.pem", "-subj", f"/CN={authority}"),
        )
    (folder / "names.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name in ("server", "client"):
        openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"),
        )
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "2", "-out", f"{name}.pem", "-extfile", "names.ext"),
        )
    (folder / "nonsense.pem").write_text("not a certificate")
    return folder


async def test_tls_serves_those_who_trust_it(run_front: Run, certificates: Path) -> None:
    files = TLSFiles(certificates / "server.pem", certificates / "server.key")
    async with run_front(tls=files) as running:
        trusting = ChannelTLS(root_certificate=certificates / "ca.pem")
        async with AsyncLeptonClient(running.target, tls=trusting) as client:
            assert (await client.complete("hi", max_tokens=2)).choices[0].text == "ab"
        for tls in (None, ChannelTLS(root_certificate=certificates / "stranger.pem")):
            async with AsyncLeptonClient(running.target, tls=tls, deadline=20) as client:
                with pytest.raises(UnavailableError):
                    await client.complete("hi", max_tokens=2)
        async with AsyncLeptonClient(running.control) as client:
            assert (await client.stats()).model == "fake-model"


async def test_mutual_tls_serves_those_with_a_certificate(run_front: Run, certificates: Path) -> None:
    files = TLSFiles(certificates / "server.pem", certificates / "server.key", certificates / "ca.pem")
    async with run_front(tls=files) as running:
        root = certificates / "ca.pem"
        known = ChannelTLS(root, certificates / "client.pem", certificates / "client.key")
        async with AsyncLeptonClient(running.target, tls=known) as client:
            assert (await client.complete("hi", max_tokens=2)).choices[0].text == "ab"
        strangers = (ChannelTLS(root), ChannelTLS(root, certificates / "stranger.pem", certificates / "stranger.key"))
        for tls in strangers:
            async with AsyncLeptonClient(running.target, tls=tls, deadline=20) as client:
                with pytest.raises(UnavailableError):
                    await client.complete("hi", max_tokens=2)


@pytest.mark.parametrize(
    ("certificate", "key", "authority", "message"),
    [
        ("missing.pem", "server.key", None, r"certificate .*missing\.pem cannot be read"),
        ("server.pem", "missing.key", None, r"key .*missing\.key cannot be read"),
        ("server.pem", "client.key", None, "do not belong together"),
        ("nonsense.pem", "server.key", None, "cannot be used"),
        ("server.pem", "server.key", "missing.pem", r"client CA .*missing\.pem cannot be read"),
        ("server.pem", "server.key", "nonsense.pem", r"client CA .*nonsense\.pem cannot be used"),
    ],
)
async def test_tls_files_that_cannot_be_used_are_named(
    certificates: Path, certificate: str, key: str, authority: str | None, message: str
) -> None:
    files = TLSFiles(
        certificates / certificate, certificates / key, None if authority is None else certificates / authority
    )
    front = FrontEnd(ServerOptions(port=0, control_port=0, tls=files), "m", never)
    with pytest.raises(TLSError, match=message):
        await front.start()


async def silent_stream(running: Any, ping_ms: int, pings: int) -> grpc.StatusCode:
    """The status of a stream that is silent while the client sends keepalive pings, and is then let go."""
    options = [
        ("grpc.keepalive_time_ms", ping_ms),
        ("grpc.keepalive_timeout_ms", 5000),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    running.engine.go.clear()
    async with grpc.aio.insecure_channel(running.target, options=options) as channel:
        call = generation_pb2_grpc.GenerationServiceStub(channel).Generate(generate_request("hi", max_tokens=1))
        await call.initial_metadata()
        await asyncio.wait({asyncio.ensure_future(call.code())}, timeout=ping_ms * pings / 1000)
        running.engine.go.set()
        try:
            while await call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code()
        return await call.code()


async def test_keepalive_pings_are_permitted_on_a_silent_stream(run_front: Run) -> None:
    async with run_front(min_ping_interval=0.01) as running:
        assert await silent_stream(running, ping_ms=50, pings=20) == grpc.StatusCode.OK


async def test_pings_faster_than_permitted_are_answered_with_goaway(run_front: Run) -> None:
    """The control of the test above: another interval sends the same client away, so the option has an effect."""
    async with run_front(min_ping_interval=300.0) as running:
        assert await silent_stream(running, ping_ms=50, pings=1000) == grpc.StatusCode.UNAVAILABLE


class Proxy:
    """Carries bytes between a client and a server until `cut`; then it holds both connections and carries nothing."""

    def __init__(self) -> None:
        self.cut = False
        self.server_left = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self, target: str) -> str:
        host, _, port = target.rpartition(":")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            inward, outward = await asyncio.open_connection(host, int(port))
            self._writers += [writer, outward]
            await asyncio.gather(self._carry(reader, outward), self._carry(inward, writer, self.server_left))

        self._server = await asyncio.start_server(serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: asyncio.Event | None = None
    ) -> None:
        while data := await reader.read(65536):
            if not self.cut:
                writer.write(data)
        if left is not None:
            left.set()

    def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()


async def test_a_dead_peer_is_found_and_its_request_released(run_front: Run, eventually: Callable[..., Any]) -> None:
    async with run_front(keepalive_time=0.2, keepalive_timeout=0.2) as running:
        running.engine.go.clear()
        proxy = Proxy()
        async with grpc.aio.insecure_channel(await proxy.start(running.target)) as channel:
            call = generation_pb2_grpc.GenerationServiceStub(channel).Generate(generate_request("hi", max_tokens=1))
            await call.initial_metadata()
            proxy.cut = True
            await eventually(lambda: running.engine.jobs == [])
            proxy.close()


async def test_a_dead_peer_without_calls_is_found_too(run_front: Run) -> None:
    async with run_front(keepalive_time=0.2, keepalive_timeout=0.2) as running:
        proxy = Proxy()
        async with AsyncLeptonClient(await proxy.start(running.target)) as client:
            await client.complete("hi", max_tokens=1)
            proxy.cut = True
            await proxy.server_left.wait()
            proxy.close()


async def test_a_dead_server_is_found_by_the_published_options(running: Any) -> None:
    running.engine.go.clear()
    proxy = Proxy()
    options = channel_options(keepalive=0.2, keepalive_timeout=0.2)
    async with grpc.aio.insecure_channel(await proxy.start(running.target), options=options) as channel:
        call = generation_pb2_grpc.GenerationServiceStub(channel).Generate(generate_request("hi", max_tokens=1))
        await call.initial_metadata()
        proxy.cut = True
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        proxy.close()


async def test_large_answers_are_sent_whole(running: Any) -> None:
    assert len(await running.client.tokenize("x" * 6_000_000)) == 6_000_001


async def test_the_access_log_has_figures_and_no_text(running: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        await running.client.complete("the secret prompt", max_tokens=5, request_id="one")
        with pytest.raises(Exception, match="INVALID_ARGUMENT"):
            await running.client.complete("the secret prompt", top_p=2.0)
        running.engine.refusal = ValueError("something about the secret prompt")
        with pytest.raises(Exception, match="INTERNAL"):
            await running.client.complete([{"role": "user", "content": "the secret prompt"}])
    lines = [record.getMessage() for record in caplog.records if record.name == "lepton.access"]
    assert "code=OK" in lines[0]
    assert "request_id=one" in lines[0]
    assert "prompt_tokens=18" in lines[0]
    assert "generated_tokens=5" in lines[0]
    assert "code=INVALID_ARGUMENT" in lines[1]
    assert "code=INTERNAL" in lines[2]
    assert not any("secret" in line for line in lines)


def test_the_published_keepalive_is_slower_than_what_the_server_permits() -> None:
    from lepton_service.client.channel import KEEPALIVE_SECONDS

    assert ServerOptions().min_ping_interval < KEEPALIVE_SECONDS
