"""/metrics, /healthz and /readyz."""

from collections.abc import Callable

from aiohttp import web


class WebServer:
    """Answers who asks for metrics and health.

    Args:
        metrics: gives the text. healthy: whether the process works. ready: whether its indices are filled.
    """

    def __init__(self, metrics: Callable[[], bytes], healthy: Callable[[], bool], ready: Callable[[], bool]) -> None:
        self._metrics, self._healthy, self._ready = metrics, healthy, ready
        app = web.Application()
        app.router.add_get("/metrics", self._get_metrics)
        app.router.add_get("/healthz", self._get_healthz)
        app.router.add_get("/readyz", self._get_readyz)
        self._runner = web.AppRunner(app, access_log=None)
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listens; `port` says where. Raises OSError."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stops."""
        await self._runner.cleanup()

    async def _get_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _get_healthz(self, _: web.Request) -> web.Response:
        return _answer(self._healthy())

    async def _get_readyz(self, _: web.Request) -> web.Response:
        return _answer(self._ready())


def _answer(good: bool) -> web.Response:
    return web.Response(text="ok\n" if good else "not yet\n", status=200 if good else 503)
