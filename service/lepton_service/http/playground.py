"""The playground: a page of three files, and the figures that its charts draw."""

import hashlib
from importlib import resources

from google.protobuf.duration_pb2 import Duration

from lepton.v1.stats_pb2 import Stats, WatchStatsRequest, WatchStatsResponse
from lepton_service.http.exchange import Exchange
from lepton_service.http.in_process import Methods

WATCH_STATS = "/lepton.v1.StatsService/WatchStats"
INTERVAL_SECONDS = 1
# Nothing from elsewhere, nothing inline, no frame around it.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


class StaticFile:
    """One file of the page, read once."""

    def __init__(self, name: str) -> None:
        self._data = resources.files("lepton_service.http").joinpath("static", name).read_bytes()
        self._tag = f'"{hashlib.sha256(self._data).hexdigest()[:16]}"'
        self._headers = {
            "content-type": f"{_KINDS[name.rpartition('.')[2]]}; charset=utf-8",
            "content-security-policy": CONTENT_SECURITY_POLICY,
            "cross-origin-opener-policy": "same-origin",
            "cache-control": "no-cache",
            "etag": self._tag,
        }

    async def handle(self, exchange: Exchange, data: bytes) -> None:
        """Sends it, or says that the browser has it already."""
        known = exchange.headers.get("if-none-match") == self._tag
        await exchange.answer(304 if known else 200, b"" if known else self._data, self._headers)


class Figures:
    """`GET /playground/stats`: the engine's figures as events, once a second until either side ends it."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods

    async def handle(self, exchange: Exchange, data: bytes) -> None:
        """Sends the figures."""

        async def write(response: WatchStatsResponse) -> None:
            await exchange.event(figures(response.stats))

        request = WatchStatsRequest(interval=Duration(seconds=INTERVAL_SECONDS))
        await self._methods.stream(WATCH_STATS, request, exchange.origin(), write, exchange.begin_events)
        await exchange.end_events(b"")


def figures(stats: Stats) -> dict[str, object]:
    """What the charts show of the server's figures."""
    return {
        "time": stats.time.seconds + stats.time.nanos / 1e9,
        "model": stats.model,
        "loading": stats.loading,
        "draining": stats.draining,
        "running": stats.running,
        "waiting": stats.waiting,
        "max_running": stats.max_running,
        "kv_used": stats.kv_blocks_referenced / stats.kv_blocks_total if stats.kv_blocks_total else 0.0,
        "kv_cached": stats.kv_blocks_cached / stats.kv_blocks_total if stats.kv_blocks_total else 0.0,
        "generated_tokens": stats.generated_tokens,
        "prompt_tokens": stats.prompt_tokens,
    }
