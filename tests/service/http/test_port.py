"""The port itself: flags, addresses, CORS, HTTPS, the page's headers."""

import argparse
import asyncio
import ssl
from pathlib import Path
from typing import Any

import httpx2
import pytest

from lepton_service.http import protocol
from lepton_service.http.options import HTTPOptions, add_http_arguments, http_options
from lepton_service.http.protocol import security
from lepton_service.http.server import HTTPServer
from lepton_service.options import TLSFiles
from lepton_service.server import PortInUseError


def parsed(*flags: str) -> HTTPOptions | None:
    parser = argparse.ArgumentParser()
    add_http_arguments(parser)
    return http_options(parser.parse_args(flags))


def test_flags() -> None:
    assert parsed() is None
    assert parsed("--http-port") == HTTPOptions(8080)
    assert parsed("--http-port", "0", "--http-host", "::1") == HTTPOptions(0, "::1")
    found = parsed("--http-port", "1", "--http-cors-origin", "https://a.example", "--http-cors-origin", "*")
    assert found is not None
    assert found.cors_origins == ("https://a.example", "*")


@pytest.mark.parametrize("origin", ["a.example", "https://a.example/path", "https://*.a.example", "ftp://a", ""])
def test_origins_that_are_none(origin: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        parsed("--http-port", "1", "--http-cors-origin", origin)


def test_an_origin_without_a_port() -> None:
    with pytest.raises(ValueError, match="--http-cors-origin needs --http-port"):
        parsed("--http-cors-origin", "https://a.example")


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="extra `http`"):
        parsed("--http-port", "1")


async def test_a_port_in_use(web: Any) -> None:
    second = HTTPServer(web.running.front, HTTPOptions(web.http.port))
    with pytest.raises(PortInUseError, match=str(web.http.port)):
        await second.start()
    await second.stop(0.0)


async def test_heads_that_are_too_long(web: Any) -> None:
    for head in (
        b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000,
        b"GET /" + b"a" * 70_000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 12_000,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", web.http.port)
        writer.write(head)
        assert (await reader.readline()).startswith(b"HTTP/1.1 431")
        writer.close()
    long = {"x-long": "a" * 60_000}
    assert (await web.raw.get("/health", headers=long)).status_code == 200
    assert (await web.raw.post("/v1/completions", json={"prompt": "a" * 3000}, headers=long)).status_code == 200


async def test_heads_that_do_not_come(run_web: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    async with run_web() as web:
        for head in (b"", b"GET / HTTP/1.1\r\nhost: x\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", web.http.port)
            writer.write(head)
            assert (await reader.read()).startswith(b"HTTP/1.1 408")
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", web.http.port)
        writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        writer.write(b"GET ")
        assert (await reader.read()).startswith(b"HTTP/1.1 408")
        writer.close()


async def test_without_cors_no_other_origin_is_let_in(web: Any) -> None:
    headers = {"origin": "https://a.example", "access-control-request-method": "POST"}
    response = await web.raw.options("/v1/completions", headers=headers)
    assert response.status_code == 405
    response = await web.raw.get("/v1/models", headers=headers)
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_cors(run_web: Any) -> None:
    async with run_web(cors_origins=("https://a.example",)) as web:
        asked = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization, content-type",
        }
        response = await web.raw.options("/v1/completions", headers={"origin": "https://a.example", **asked})
        assert response.headers["access-control-allow-origin"] == "https://a.example"
        response = await web.raw.options("/v1/completions", headers={"origin": "https://b.example", **asked})
        assert response.status_code == 400
        assert "access-control-allow-origin" not in response.headers
        response = await web.raw.post("/v1/completions", json={"prompt": "hi"}, headers={"origin": "https://a.example"})
        assert response.headers["access-control-allow-origin"] == "https://a.example"
        assert "x-request-id" in response.headers["access-control-expose-headers"]


async def test_pages_that_reach_loopback_by_a_name_of_their_own(web: Any, run_web: Any) -> None:
    for origin in ("http://evil.example:8080", "null", "https://127.0.0.1.evil.example"):
        response = await web.raw.post("/v1/completions", json={"prompt": "hi"}, headers={"origin": origin})
        assert (response.status_code, response.json()["error"]["code"]) == (403, "foreign_origin")
    for origin in (web.url, "http://localhost:1", "http://[::1]:1"):
        response = await web.raw.post("/v1/completions", json={"prompt": "hi"}, headers={"origin": origin})
        assert response.status_code == 200
    assert len(web.engine.seen) == 3


async def test_the_page_loads_nothing_from_elsewhere(web: Any) -> None:
    for path, kind in (("/", "text/html"), ("/playground.css", "text/css"), ("/playground.js", "text/javascript")):
        response = await web.raw.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"] == f"{kind}; charset=utf-8"
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "unsafe" not in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
        text = response.text.replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, "an address of another server"
        assert "innerHTML" not in text
        again = await web.raw.get(path, headers={"if-none-match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        head = await web.raw.head(path)
        assert (head.status_code, head.content) == (200, b"")


async def test_health(web: Any) -> None:
    response = await web.raw.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "ready"})


def test_a_certificate_as_grpc_tells_it() -> None:
    certificate = {
        "subject": ((("countryName", "NO"),), (("commonName", "ann"),)),
        "subjectAltName": (("DNS", "ann.example"), ("URI", "spiffe://x/ann")),
    }
    assert security(certificate) == {
        "transport_security_type": [b"ssl"],
        "x509_common_name": [b"ann"],
        "x509_subject_alternative_name": [b"ann.example", b"spiffe://x/ann"],
    }


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and certificates of it for the server and a client."""
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


def make_certificates(folder: Path) -> None:
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.UTC)

    def name(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])

    authority_key = ec.generate_private_key(ec.SECP256R1())
    for common in ("authority", "server", "client"):
        key = authority_key if common == "authority" else ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(f"{common}.example")]
        names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name(common))
            .issuer_name(name("authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=common == "authority", path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(authority_key, hashes.SHA256())
        )
        (folder / f"{common}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / f"{common}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


async def test_https_with_the_files_of_the_inference_port(run_web: Any, certificates: Path) -> None:
    files = TLSFiles(certificates / "server.pem", certificates / "server.key", certificates / "authority.pem")
    async with run_web(tls=files) as web:
        trusting = ssl.create_default_context(cafile=str(certificates / "authority.pem"))
        url = f"https://127.0.0.1:{web.http.port}/v1/models"
        async with httpx2.AsyncClient(verify=trusting) as client:
            with pytest.raises(httpx2.TransportError):
                await client.get(url)
        trusting.load_cert_chain(certificates / "client.pem", certificates / "client.key")
        async with httpx2.AsyncClient(verify=trusting) as client:
            assert (await client.get(url)).json()["data"][0]["id"] == "fake-model"


async def test_certificates_that_change(run_web: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
        make_certificates(folder)

    def put(folder: Path, *names: str) -> None:
        for name in names:
            (tmp_path / "next").write_bytes((folder / name).read_bytes())
            (tmp_path / "next").rename(tmp_path / name)

    put(old, "server.pem", "server.key", "authority.pem")
    files = TLSFiles(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "authority.pem")
    async with run_web(tls=files) as web:

        async def reached(server: Path, client: Path) -> bool:
            trusting = ssl.create_default_context(cafile=str(server / "authority.pem"))
            trusting.load_cert_chain(client / "client.pem", client / "client.key")
            async with httpx2.AsyncClient(verify=trusting) as newcomer:
                try:
                    return (await newcomer.get(f"https://127.0.0.1:{web.http.port}/health")).status_code == 200
                except httpx2.TransportError:
                    return False

        assert await reached(old, client=old)
        put(new, "server.pem")  # its key is still the old one
        assert await reached(old, client=old)
        assert "do not belong together; what was read before stays in force" in caplog.text
        (tmp_path / "server.key").unlink()
        assert await reached(old, client=old)
        put(new, "server.key")
        assert not await reached(old, client=old)
        assert await reached(new, client=old)
        assert not await reached(new, client=new)
        put(new, "authority.pem")
        assert await reached(new, client=new)
        assert not await reached(new, client=old)
