"""Callers of the HTTP port are asked who they are as those of gRPC are."""

import asyncio
import logging
from typing import Any

import openai
import pytest

from tests.service.http.callers import Tokens

ASKED: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v1/completions", {"json": {"prompt": "hi"}}),
    ("POST", "/v1/completions", {"json": {"prompt": "hi", "stream": True}}),
    ("POST", "/v1/chat/completions", {"json": {"messages": [{"role": "user", "content": "hi"}]}}),
    ("POST", "/v1/embeddings", {"json": {"input": "hi"}}),
    ("POST", "/v1/completions", {"content": b"{"}),
    ("GET", "/v1/models", {}),
    ("GET", "/v1/models/fake-model", {}),
    ("GET", "/playground/stats", {}),
]


async def test_nothing_is_served_without_a_credential_but_health_and_the_page(run_web: Any) -> None:
    async with run_web(authenticator=Tokens()) as web:
        for headers, code in (
            ({}, "missing"),
            ({"authorization": "Bearer X"}, "invalid"),
            ({"authorization": "x"}, ""),
        ):
            for method, path, body in ASKED:
                response = await web.raw.request(method, path, headers=headers, **body)
                assert response.status_code == 401, (method, path)
                error = response.json()["error"]
                assert error["type"] == "authentication_error"
                assert code in error["code"]
                assert response.headers["www-authenticate"].startswith("Bearer")
        for path in ("/health", "/", "/playground.js", "/playground.css"):
            assert (await web.raw.get(path)).status_code == 200
        assert web.engine.seen == []
        response = await web.raw.get("/v1/models", headers={"authorization": "Bearer old"})
        assert (response.status_code, "expired" in response.headers["www-authenticate"]) == (401, True)


async def test_the_credentials_tenant_is_the_requests(run_web: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with run_web(authenticator=Tokens(), api_key="ann") as web:
        with caplog.at_level(logging.INFO):
            await web.openai.completions.create(model="", prompt="a secret", max_tokens=1)
        assert web.engine.seen[0].options["tenant"] == "ann"
        assert "secret" not in caplog.text
        stolen = {"authorization": "Bearer ann", "x-lepton-tenant": "bob"}
        response = await web.raw.post("/v1/completions", json={"prompt": "hi"}, headers=stolen)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "tenant_not_allowed")
    async with run_web(authenticator=Tokens(), api_key="NOBODY") as web:
        with pytest.raises(openai.AuthenticationError):
            await web.openai.models.list()


async def test_a_body_is_not_read_of_a_caller_who_may_not_call(run_web: Any) -> None:
    async with run_web(authenticator=Tokens()) as web:
        reader, writer = await asyncio.open_connection("127.0.0.1", web.http.port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n")
        writer.write(b"content-length: 1000000\r\n\r\n")  # and nothing of it comes
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
        writer.close()
