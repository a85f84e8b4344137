"""Where the client sends its token, and where it does not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lepton_service.auth.options import AuthOptions
from lepton_service.client import (
    AsyncLeptonClient,
    ChannelTLS,
    LeptonClient,
    PermissionError,
    PlaintextTokenError,
    UnavailableError,
    token_file,
)
from lepton_service.client.token import is_local
from lepton_service.options import TLSFiles

Run = Callable[..., Any]

LOCAL = [
    *("localhost:1", "127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "::1", "dns:///localhost:1", "dns:localhost:1"),
    *("ipv4:127.0.0.1:1", "ipv6:[::1]:1", "unix:/tmp/x", "dns://8.8.8.8/localhost:1", "ipv4:127.0.0.1:1,127.0.0.2:1"),
]
REMOTE = [
    *("llama:1", "10.0.0.1:1", "dns:///llama.ns.svc:1", "localhost.evil:1", "127.0.0.1.evil:1", "[2001:db8::1]:1"),
    *("ipv4:127.0.0.1:1,10.0.0.1:1", "xds:///localhost:1", "0.0.0.0:1", "dns:///127.0.0.1:1@evil:1", ""),
]


@pytest.mark.parametrize("target", LOCAL)
def test_targets_on_this_machine(target: str) -> None:
    assert is_local(target)


@pytest.mark.parametrize("target", REMOTE)
def test_targets_elsewhere_get_no_token_in_plaintext(target: str) -> None:
    assert not is_local(target)
    for kind in (LeptonClient, AsyncLeptonClient):
        with pytest.raises(PlaintextTokenError, match="in plaintext") as raised:
            kind(target, token="secret")
        assert "secret" not in str(raised.value)


async def test_it_may_be_allowed() -> None:
    LeptonClient("llama:1", token="secret", allow_plaintext_token=True).close()
    await AsyncLeptonClient("llama:1", token="secret", allow_plaintext_token=True).close()


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "\u00e4", "Bearer x"])
def test_what_is_no_token_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match="the token has characters") as raised:
        LeptonClient("localhost:1", token=token)
    assert not token or token not in str(raised.value)


@pytest.fixture
def over_tls(tmp_path: Path, authority: Any) -> tuple[TLSFiles, ChannelTLS]:
    certificate, key = authority.issue("server")
    for name, data in (("tls.crt", certificate), ("tls.key", key), ("ca.crt", authority.pem)):
        (tmp_path / name).write_bytes(data)
    return TLSFiles(tmp_path / "tls.crt", tmp_path / "tls.key"), ChannelTLS(tmp_path / "ca.crt")


@pytest.mark.parametrize("encrypted", [True, False])
async def test_calls_of_every_kind_bring_the_token_of_the_moment(
    run_front: Run, tmp_path: Path, over_tls: Any, token_lines: Any, encrypted: bool
) -> None:
    import asyncio

    (tmp_path / "tokens").write_text(token_lines(acme="one", beta="two"))
    (tmp_path / "mine").write_text("one\n")
    tls, trusting = over_tls if encrypted else (None, None)
    async with run_front(tls=tls, auth=AuthOptions(tokens=tmp_path / "tokens")) as running:

        def calls() -> None:
            with LeptonClient(running.target, tls=trusting, token=token_file(tmp_path / "mine"), timeout=30) as client:
                assert client.complete("hi", max_tokens=2).choices[0].text == "ab"
                assert "".join(client.generate("hi", max_tokens=2).texts()) == "ab"

        await asyncio.to_thread(calls)
        async with AsyncLeptonClient(
            running.target, tls=trusting, token=token_file(tmp_path / "mine"), deadline=30
        ) as client:
            (tmp_path / "mine").write_text("two\n")
            assert (await client.complete("hi", max_tokens=2)).choices[0].text == "ab"
            assert "".join([text async for text in client.generate("hi", max_tokens=2).texts()]) == "ab"
            (tmp_path / "mine").write_text("three")
            with pytest.raises(PermissionError) as raised:
                await client.get_model()
        assert raised.value.reason == "CREDENTIAL_INVALID"
        assert [job.options["tenant"] for job in running.engine.seen] == ["acme", "acme", "beta", "beta"]


async def test_a_token_goes_to_no_server_that_is_not_trusted(
    run_front: Run, over_tls: Any, tmp_path: Path, stranger: Any
) -> None:
    (tmp_path / "stranger.crt").write_bytes(stranger.pem)
    asked = []

    def token() -> str:
        asked.append(1)
        return "secret"

    async with (
        run_front(tls=over_tls[0]) as running,
        AsyncLeptonClient(
            running.target, tls=ChannelTLS(tmp_path / "stranger.crt"), token=token, deadline=30, retry=False
        ) as client,
    ):
        with pytest.raises(UnavailableError):
            await client.get_model()
    assert asked == []
