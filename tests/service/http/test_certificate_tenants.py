"""HTTPS callers whose tenant is in their certificate."""

import ssl
from pathlib import Path
from typing import Any

import httpx2

from lepton_service.auth.certificates import CertificateTenant
from lepton_service.auth.options import AuthOptions
from lepton_service.options import TLSFiles
from tests.service.http.test_port import make_certificates


async def test_the_tenant_is_in_the_certificate(run_web: Any, tmp_path: Path) -> None:
    make_certificates(tmp_path)
    files = TLSFiles(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "authority.pem")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
    trusting.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
    for part, tenant in ((CertificateTenant.COMMON_NAME, "client"), (CertificateTenant.URI, None)):
        async with (
            run_web(tls=files, auth=AuthOptions(certificate_tenant=part)) as web,
            httpx2.AsyncClient(verify=trusting, base_url=f"https://127.0.0.1:{web.http.port}") as client,
        ):
            asked = {"prompt": "hi", "max_tokens": 1}
            stolen = await client.post("/v1/completions", json=asked, headers={"x-lepton-tenant": "other"})
            assert (stolen.status_code, stolen.json()["error"]["code"]) == (403, "tenant_not_allowed")
            response = await client.post("/v1/completions", json=asked)
            assert response.status_code == (403 if tenant is None else 200)
            assert [job.options["tenant"] for job in web.engine.seen] == ([] if tenant is None else [tenant])
