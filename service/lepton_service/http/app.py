"""The HTTP port's paths as an ASGI application."""

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import grpc
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lepton.v1 import generation_pb2_grpc, model_pb2_grpc, stats_pb2_grpc
from lepton.v1.generation_pb2 import CompleteRequest
from lepton_service.auth.errors import AuthenticationError
from lepton_service.auth.principal import CertificateNames
from lepton_service.http.about import About
from lepton_service.http.endpoint import Check, Endpoint, Handler, Running
from lepton_service.http.errors import HTTPError
from lepton_service.http.exchange import TIMEOUT_HEADER, Exchange
from lepton_service.http.generation import COMPLETE, Generation
from lepton_service.http.in_process import Methods
from lepton_service.http.options import HTTPOptions
from lepton_service.http.playground import Figures, StaticFile
from lepton_service.interceptors.authentication import AuthenticationInterceptor
from lepton_service.servicers.generation import GenerationServicer
from lepton_service.servicers.model import ModelServicer
from lepton_service.servicers.stats import StatsServicer
from lepton_service.state import ServerState

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


async def _everyone(exchange: Exchange) -> None:
    """The check of paths that are open to all."""


def own_page(options: HTTPOptions) -> Check:
    """Refuses POSTs of web pages that reach a loopback port by a name of their own (DNS rebinding)."""

    async def check(exchange: Exchange) -> None:
        origin = exchange.headers.get("origin")
        if origin is None or options.host not in LOOPBACK or {origin, "*"} & set(options.cors_origins):
            return
        try:
            host = urlsplit(origin).hostname or ""
            if host != "localhost":
                ipaddress.ip_address(host)
        except ValueError as error:
            message = f"origin: pages of {origin[:200]!r} are not let in, --http-cors-origin would"
            raise HTTPError(403, message, code="foreign_origin") from error

    return check


def known_caller(authentication: AuthenticationInterceptor, methods: Methods) -> Check:
    """Refuses callers who may not call before their request's body is read."""

    async def check(exchange: Exchange) -> None:
        origin = exchange.origin()
        try:
            authentication.identify(origin.metadata, CertificateNames.from_auth_context(origin.security))
        except AuthenticationError:
            # As a call, so that it is refused, logged and counted as one.
            await methods.unary(COMPLETE, CompleteRequest(), origin)
            raise

    return check


def http_app(
    state: ServerState,
    interceptors: Sequence[grpc.aio.ServerInterceptor],
    options: HTTPOptions,
    running: Running,
    closing: asyncio.Event,
    authentication: AuthenticationInterceptor | None = None,
) -> Starlette:
    """The application.

    Args:
        interceptors: of the inference server: what it asks of a call is asked here.
        closing: set when the server ends its own streams, the playground's figures.
        authentication: which of the interceptors asks who calls; None where everyone may.
    """
    methods = Methods(interceptors)
    server: Any = methods
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(GenerationServicer(state), server)
    model_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(state), server)
    stats_pb2_grpc.add_StatsServiceServicer_to_server(StatsServicer(state, closing), server)
    generation, about = Generation(state, methods), About(state, methods)
    check = _everyone if authentication is None else known_caller(authentication, methods)

    def get(path: str, handler: Handler, check: Check = check) -> Route:
        endpoint = Endpoint(state, running, handler, takes_body=False, check=check)
        return Route(path, endpoint, methods=["GET"])

    page = own_page(options)

    async def both(exchange: Exchange) -> None:
        await page(exchange)
        await check(exchange)

    def post(path: str, handler: Handler) -> Route:
        endpoint = Endpoint(state, running, handler, takes_body=True, check=both)
        return Route(path, endpoint, methods=["POST"])

    routes = [
        post("/v1/completions", generation.completions),
        post("/v1/chat/completions", generation.chat),
        post("/v1/embeddings", about.embeddings),
        get("/v1/models", about.models),
        get("/v1/models/{name:path}", about.model),
        get("/health", about.health, _everyone),
        get("/", StaticFile("index.html").handle, _everyone),
        get("/playground.css", StaticFile("playground.css").handle, _everyone),
        get("/playground.js", StaticFile("playground.js").handle, _everyone),
        get("/playground/stats", Figures(methods).handle),
    ]
    middleware = []
    if options.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(options.cors_origins),
                allow_methods=["GET", "POST"],
                allow_headers=["authorization", "content-type", "x-request-id", "traceparent", TIMEOUT_HEADER],
                expose_headers=["x-request-id", "retry-after", "retry-after-ms"],
            )
        )
    app = Starlette(routes=routes, middleware=middleware, exception_handlers={404: _no_path, 405: _no_method})
    app.router.redirect_slashes = False
    return app


async def _no_path(request: Request, error: Any) -> Response:
    return _error(HTTPError(404, f"there is no path {request.url.path[:200]!r}", code="unknown_path"))


async def _no_method(request: Request, error: Any) -> Response:
    found = HTTPError(405, f"{request.method} is not allowed for {request.url.path[:200]!r}", code="unknown_method")
    return _error(found, error.headers)


def _error(error: HTTPError, headers: Any = None) -> Response:
    return Response(error.body(), error.status, {**error.headers(), **(headers or {})})
