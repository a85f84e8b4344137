"""A client of the API server on raw requests: timeouts on everything, throttling obeyed, a gate before every write."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import msgspec

from lepton_operator.kube.access import Access
from lepton_operator.kube.resources import Resource
from lepton_operator.names import MANAGER
from lepton_operator.settings import REQUEST_TIMEOUT, VERSION

ATTEMPTS = 4
"""Tries of a request that the server throttles."""
MAX_RETRY_AFTER = 5.0
CONNECTIONS = 32
APPLY = "application/apply-patch+yaml"  # JSON is YAML
MERGE = "application/merge-patch+json"
_JSON = "application/json"
_MAX_LINE = 16 * 1024 * 1024


class ApiError(Exception):
    """The server refused, or could not be reached.

    Attributes:
        status: HTTP status; 0 when there was no answer. reason: the machine's word. message: the server's sentence.
        causes: reasons of the details' causes.
    """

    def __init__(self, status: int, reason: str, message: str, causes: tuple[str, ...] = ()) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else message)
        self.status, self.reason, self.message, self.causes = status, reason, message, causes


class _Cause(msgspec.Struct):
    reason: str = ""


class _Details(msgspec.Struct):
    causes: list[_Cause] = []


class _Status(msgspec.Struct):
    reason: str = ""
    message: str = ""
    details: _Details | None = None


Observer = Callable[[str, str, int], None]


class Client:
    """Calls the API.

    Args:
        identity: told in the user agent, so that audit logs tell operators apart.
        gate: called before every write; raises when this process may not write.
        observer: told method, resource and status of every call.
    """

    def __init__(
        self, access: Access, identity: str, gate: Callable[[], None], observer: Observer = lambda *_: None
    ) -> None:
        self._access = access
        self._gate = gate
        self._observer = observer
        self._agent = f"lepton-operator/{VERSION} ({identity})"
        self._writing = asyncio.Semaphore(CONNECTIONS)
        connector = aiohttp.TCPConnector(
            limit=0, ssl=access.tls if access.tls is not None else False, socket_factory=_socket, keepalive_timeout=60
        )
        self._session = aiohttp.ClientSession(connector=connector, headers={"User-Agent": self._agent})

    async def close(self) -> None:
        """Ends all connections."""
        await self._session.close()

    async def get(self, path: str, **params: str) -> bytes:
        """The JSON at a path. Raises ApiError."""
        return await self._call("GET", path, params)

    async def apply(self, resource: Resource, manifest: dict[str, Any], *, force: bool, **options: str) -> bytes:
        """Server-side apply; the object as it is now. Raises ApiError."""
        metadata = manifest["metadata"]
        path = resource.path(metadata["namespace"], metadata["name"], options.pop("subresource", None))
        params = {"fieldManager": MANAGER, "force": "true" if force else "false", **options}
        return await self._call("PATCH", path, params, manifest, APPLY)

    async def merge(self, path: str, patch: dict[str, Any]) -> bytes:
        """A JSON merge patch; the object as it is now. Raises ApiError."""
        return await self._call("PATCH", path, {"fieldManager": MANAGER}, patch, MERGE)

    async def create(self, path: str, body: dict[str, Any], *, gated: bool = True) -> bytes:
        """Makes an object. Raises ApiError."""
        return await self._call("POST", path, {"fieldManager": MANAGER}, body, gated=gated)

    async def replace(self, path: str, body: dict[str, Any], *, gated: bool = True) -> bytes:
        """Replaces an object, if its resourceVersion still is the one in `body`. Raises ApiError."""
        return await self._call("PUT", path, {"fieldManager": MANAGER}, body, gated=gated)

    async def delete(self, path: str, uid: str) -> None:
        """Deletes the object with that uid, its dependents in the background. Raises ApiError."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        await self._call("DELETE", path, {}, body)

    async def watch(self, path: str, params: dict[str, str], seconds: int) -> AsyncIterator[bytes]:
        """Lines of a watch, until the server ends it.

        Raises:
            ApiError: at the start. aiohttp.ClientError, OSError: later.
        """
        timeout = aiohttp.ClientTimeout(total=seconds + 30, sock_connect=REQUEST_TIMEOUT)
        wanted = {**params, "watch": "true", "timeoutSeconds": str(seconds)}
        try:
            response = await self._session.get(
                self._access.server + path, params=wanted, headers=self._headers(), timeout=timeout
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._observer("WATCH", path, 0)
            raise ApiError(0, "", f"watch {path}: {_text(error)}") from error
        async with response:
            self._observer("WATCH", path, response.status)
            if response.status != 200:
                raise _error(response.status, await response.read())
            buffer = bytearray()
            async for chunk in response.content.iter_any():
                buffer += chunk
                while (end := buffer.find(b"\n")) >= 0:
                    yield bytes(buffer[:end])
                    del buffer[: end + 1]
                if len(buffer) > _MAX_LINE:
                    raise ApiError(0, "", f"watch {path}: a line of more than {_MAX_LINE} bytes")

    def _headers(self) -> dict[str, str]:
        token = self._access.token()
        return {"Authorization": f"Bearer {token}"} if token else {}

    async def _call(
        self,
        method: str,
        path: str,
        params: dict[str, str],
        body: dict[str, Any] | None = None,
        content_type: str = _JSON,
        *,
        gated: bool = True,
    ) -> bytes:
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": content_type} if data is not None else {}
        async with self._writing:
            for attempt in range(ATTEMPTS):
                if method != "GET" and gated:
                    self._gate()
                status, retry_after, answer = await self._once(method, path, params, data, headers)
                if status < 300:
                    return answer
                if status != 429 or attempt == ATTEMPTS - 1:
                    raise _error(status, answer)
                await asyncio.sleep(min(retry_after, MAX_RETRY_AFTER) * (0.5 + random.random()))
        raise AssertionError("the last attempt returns or raises")

    async def _once(
        self, method: str, path: str, params: dict[str, str], data: bytes | None, headers: dict[str, str]
    ) -> tuple[int, float, bytes]:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
        try:
            async with self._session.request(
                method,
                self._access.server + path,
                params=params,
                data=data,
                headers={**headers, **self._headers()},
                timeout=timeout,
            ) as response:
                answer = await response.read()
                self._observer(method, path, response.status)
                return response.status, _seconds(response.headers.get("Retry-After")), answer
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._observer(method, path, 0)
            raise ApiError(0, "", f"{method} {path}: {_text(error)}") from error


def _socket(address: Any) -> socket.socket:
    """A socket that gives up on its data after a request's timeout: nothing that was written before is sent later, when
    the network is back and this process may not lead any more. Silent peers are found by keepalive."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(REQUEST_TIMEOUT * 1000))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    return made


def _error(status: int, answer: bytes) -> ApiError:
    try:
        found = msgspec.json.decode(answer, type=_Status)
    except msgspec.DecodeError:
        return ApiError(status, "", answer[:500].decode(errors="replace"))
    causes = tuple(cause.reason for cause in found.details.causes) if found.details else ()
    return ApiError(status, found.reason, found.message, causes)


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isdecimal() else 1.0


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
