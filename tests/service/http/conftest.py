"""A front end with an HTTP port before the fake engine, and clients of it."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
import pytest

from lepton_service.http.options import HTTPOptions
from lepton_service.http.server import HTTPServer
from lepton_service.interceptors.authentication import AuthenticationInterceptor

Run = Callable[..., Any]


@dataclass
class Web:
    """A front end that runs, its HTTP port, and clients of that."""

    running: Any
    http: HTTPServer
    raw: httpx2.AsyncClient
    openai: openai.AsyncOpenAI

    @property
    def engine(self) -> Any:
        return self.running.engine

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.port}"


@pytest.fixture
def run_web(run_front: Run) -> Run:
    """A context manager: `async with run_web(engine, cors_origins=(...), **server_options) as web`.

    authenticator: asks callers of the HTTP port who they are. interceptors: its innermost.
    api_key: the openai client's.
    """

    @asynccontextmanager
    async def run(
        engine: Any = None,
        cors_origins: tuple[str, ...] = (),
        authenticator: Any = None,
        api_key: str = "none",
        interceptors: Sequence[Any] = (),
        **options: Any,
    ) -> AsyncIterator[Web]:
        async with run_front(engine, **options) as running:
            if authenticator is not None:
                inference = running.front.inference
                inference.authentication = AuthenticationInterceptor(authenticator)
                inference.interceptors.append(inference.authentication)
            running.front.inference.interceptors.extend(interceptors)
            server = HTTPServer(running.front, HTTPOptions(0, cors_origins=cors_origins))
            running.front.attach(server)  # from here on the front end's drain ends it
            await server.start()
            url = f"http://127.0.0.1:{server.port}"
            async with (
                httpx2.AsyncClient(base_url=url, timeout=60) as raw,
                openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=api_key, max_retries=0) as client,
            ):
                try:
                    yield Web(running, server, raw, client)
                finally:
                    await server.stop(0.0)

    return run


@pytest.fixture
async def web(run_web: Run) -> AsyncIterator[Web]:
    async with run_web() as found:
        yield found
