"""TLS: who is served under which certificates, tenants from certificates, and files that change under a server."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lepton_service.auth.certificates import CertificateTenant
from lepton_service.auth.options import AuthOptions
from lepton_service.auth.principal import CertificateNames
from lepton_service.client import AsyncLeptonClient, ChannelTLS, LeptonClientError, PermissionError, UnavailableError
from lepton_service.options import TLSFiles
from lepton_service.tls import ServerTLS, TLSError

Run = Callable[..., Any]


@pytest.fixture
def files(tmp_path: Path, authority: Any) -> TLSFiles:
    """A server's certificate and key, and the authority of its clients."""
    certificate, key = authority.issue("server")
    for name, data in (("tls.crt", certificate), ("tls.key", key), ("ca.crt", authority.pem)):
        (tmp_path / name).write_bytes(data)
    return TLSFiles(tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt")


@pytest.fixture
def shows(tmp_path: Path, authority: Any) -> Callable[..., ChannelTLS]:
    """What a client trusts and shows: an authority, and a certificate with its key."""
    made = 0

    def make(pair: tuple[bytes, bytes] | None, trusts: Any = authority) -> ChannelTLS:
        nonlocal made
        made += 1
        folder = tmp_path / f"client{made}"
        folder.mkdir()
        (folder / "ca.crt").write_bytes(trusts.pem)
        if pair is None:
            return ChannelTLS(folder / "ca.crt")
        (folder / "tls.crt").write_bytes(pair[0])
        (folder / "tls.key").write_bytes(pair[1])
        return ChannelTLS(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")

    return make


async def refused(running: Any, tls: ChannelTLS | None) -> LeptonClientError:
    async with AsyncLeptonClient(running.target, tls=tls, deadline=30, retry=False) as client:
        with pytest.raises(LeptonClientError) as raised:
            await client.complete("hi", max_tokens=1)
    return raised.value


async def serve(running: Any, tls: ChannelTLS) -> str:
    """The tenant that a client is served as, on a connection of its own."""
    async with AsyncLeptonClient(running.target, tls=tls, deadline=30, retry=False) as client:
        await client.complete("hi", max_tokens=1)
    return str(running.engine.seen[-1].options["tenant"])


async def test_only_clients_of_the_authority_are_served(
    run_front: Run, files: TLSFiles, shows: Any, authority: Any, stranger: Any
) -> None:
    async with run_front(tls=files) as running:
        assert await serve(running, shows(authority.issue("ann"))) == ""
        served = len(running.engine.seen)
        for tls in (None, shows(None), shows(stranger.issue("ann"))):
            assert isinstance(await refused(running, tls), UnavailableError)
        assert len(running.engine.seen) == served


@pytest.mark.parametrize(
    ("part", "name", "uris", "tenant"),
    [
        (CertificateTenant.COMMON_NAME, "ann", ("spiffe://a/b",), "ann"),
        (CertificateTenant.URI, "ann", ("spiffe://a/b",), "spiffe://a/b"),
        (CertificateTenant.COMMON_NAME, None, ("spiffe://a/b",), None),
        (CertificateTenant.COMMON_NAME, "a b", (), None),
        (CertificateTenant.URI, "ann", (), None),
        (CertificateTenant.URI, "ann", ("spiffe://a/b", "spiffe://a/c"), None),
    ],
)
async def test_the_tenant_is_in_the_certificate(
    run_front: Run,
    files: TLSFiles,
    shows: Any,
    authority: Any,
    part: CertificateTenant,
    name: str | None,
    uris: tuple[str, ...],
    tenant: str | None,
) -> None:
    async with run_front(tls=files, auth=AuthOptions(certificate_tenant=part)) as running:
        tls = shows(authority.issue(name, *uris))
        if tenant is None:
            error = await refused(running, tls)
            assert (error.code.name, error.reason) == ("PERMISSION_DENIED", "TENANT_NOT_ALLOWED")
            assert running.engine.seen == []
        else:
            assert await serve(running, tls) == tenant


async def test_a_certificate_names_no_other_tenant(run_front: Run, files: TLSFiles, shows: Any, authority: Any) -> None:
    auth = AuthOptions(certificate_tenant=CertificateTenant.COMMON_NAME)
    async with run_front(tls=files, auth=auth) as running:
        metadata = [("x-lepton-tenant", "ben")]
        async with AsyncLeptonClient(running.target, tls=shows(authority.issue("ann")), metadata=metadata) as client:
            with pytest.raises(PermissionError) as raised:
                await client.get_model()
        assert raised.value.reason == "TENANT_NOT_ALLOWED"


def test_a_connection_without_a_certificate_has_no_names() -> None:
    assert CertificateNames.from_auth_context({"transport_security_type": [b"ssl"]}) is None
    found = CertificateNames.from_auth_context({"x509_subject_alternative_name": [b"host", b"spiffe://a", b"10.0.0.1"]})
    assert found == CertificateNames((), ("spiffe://a",))


async def test_tokens_and_certificates_are_both_asked_for(
    run_front: Run, files: TLSFiles, shows: Any, authority: Any, tmp_path: Path, token_lines: Any
) -> None:
    (tmp_path / "tokens").write_text(token_lines(acme="one"))
    async with run_front(tls=files, auth=AuthOptions(tokens=tmp_path / "tokens")) as running:
        known = shows(authority.issue("ann"))
        assert (await refused(running, known)).reason == "CREDENTIAL_MISSING"
        async with AsyncLeptonClient(running.target, tls=known, token="one") as client:
            await client.complete("hi", max_tokens=1)
        assert running.engine.seen[-1].options["tenant"] == "acme"
        async with AsyncLeptonClient(running.target, tls=shows(None), token="one", deadline=30, retry=False) as client:
            with pytest.raises(UnavailableError):
                await client.complete("hi", max_tokens=1)


async def test_certificates_that_change_are_read_again(
    run_front: Run, files: TLSFiles, shows: Any, authority: Any, stranger: Any, put: Any
) -> None:
    async with run_front(tls=files) as running:
        ann, ben = authority.issue("ann"), stranger.issue("ben")
        assert await serve(running, shows(ann)) == ""
        certificate, key = stranger.issue("server")
        put(files.key, key)
        put(files.certificate, certificate)
        await serve(running, shows(ann, trusts=stranger))
        await refused(running, shows(ann, trusts=authority))
        assert files.client_ca is not None
        put(files.client_ca, stranger.pem)
        await serve(running, shows(ben, trusts=stranger))
        await refused(running, shows(ann, trusts=stranger))


@pytest.mark.parametrize(
    ("what", "how"),
    [
        *((what, how) for what in ("certificate", "key", "client_ca") for how in ("missing", "garbage", "empty")),
        *((what, "mismatched") for what in ("certificate", "key")),
    ],
)
async def test_files_that_change_for_the_worse_leave_the_old_in_force(
    run_front: Run,
    files: TLSFiles,
    shows: Any,
    authority: Any,
    put: Any,
    caplog: pytest.LogCaptureFixture,
    what: str,
    how: str,
) -> None:
    path: Path = getattr(files, what)
    old = path.read_bytes()  # noqa: ASYNC240 (nothing else runs yet)
    ann = shows(authority.issue("ann"))
    async with run_front(tls=files) as running:
        if how == "missing":
            path.unlink()  # noqa: ASYNC240
        else:
            other = authority.issue("server")[0 if what == "certificate" else 1]
            put(path, {"mismatched": other, "garbage": b"nonsense", "empty": b""}[how])
        for _ in range(3):
            await serve(running, ann)
        errors = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
        (error,) = [text for text in errors if "what was read before stays in force" in text]
        assert str(path) in error
        put(path, old)
        await serve(running, ann)


@pytest.mark.parametrize("what", ["certificate", "key", "client_ca"])
def test_files_that_are_missing_at_the_start_are_named(files: TLSFiles, what: str) -> None:
    path: Path = getattr(files, what)
    path.unlink()
    with pytest.raises(TLSError, match=f"{path} cannot be read"):
        ServerTLS(files)


def test_files_that_do_not_belong_together_at_the_start(files: TLSFiles, authority: Any) -> None:
    files.key.write_bytes(authority.issue("server")[1])
    with pytest.raises(TLSError, match="do not belong together"):
        ServerTLS(files)


def test_a_secret_that_kubernetes_swaps_is_read_again(tmp_path: Path, authority: Any) -> None:
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        for name, data in zip(("tls.crt", "tls.key"), authority.issue(version), strict=True):
            (tmp_path / version / name).write_bytes(data)
    (tmp_path / "..data").symlink_to("v1")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    tls = ServerTLS(TLSFiles(tmp_path / "tls.crt", tmp_path / "tls.key"))
    assert tls.current().certificate == (tmp_path / "v1" / "tls.crt").read_bytes()
    (tmp_path / "..next").symlink_to("v2")
    (tmp_path / "..next").replace(tmp_path / "..data")
    assert tls.current().certificate == (tmp_path / "v2" / "tls.crt").read_bytes()
