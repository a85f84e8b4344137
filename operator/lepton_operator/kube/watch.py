"""List and watch: keeps a store as the API has it."""

import asyncio
import logging
import random
from collections.abc import Callable

import aiohttp
import msgspec

from lepton_operator.kube.client import ApiError, Client
from lepton_operator.kube.decode import decode
from lepton_operator.kube.resources import Resource
from lepton_operator.kube.store import Keeper
from lepton_operator.observed import Object

PAGE = 500
WATCH_SECONDS = 300
MAX_BACKOFF = 10.0

_log = logging.getLogger("lepton.operator.watch")


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw]


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct):
    metadata: _ListMeta


class _Failure(msgspec.Struct):
    code: int = 0
    reason: str = ""
    message: str = ""


_LIST, _EVENT = msgspec.json.Decoder(_List), msgspec.json.Decoder(_Event)


class Watcher:
    """Keeps one store.

    Args:
        namespace: the one that is watched; None for all.
        optional: whether the resource may be missing, or forbidden; it is then tried again at times.
        accept: objects for which this is false are not kept.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        store: Keeper,
        namespace: str | None = None,
        *,
        field_selector: str = "",
        optional: bool = False,
        accept: Callable[[Object], bool] = lambda _: True,
    ) -> None:
        self._client, self.resource, self._store, self._namespace = client, resource, store, namespace
        self._optional, self._accept = optional, accept
        self._params = {"labelSelector": resource.selector} if resource.selector else {}
        if field_selector:
            self._params["fieldSelector"] = field_selector
        self._version = ""
        self.synced = asyncio.Event()
        self.available = False

    async def run(self) -> None:
        """Lists and watches for ever."""
        backoff = 0.2
        while True:
            try:
                if not self._version:
                    await self._list()
                    self.available = True
                    self.synced.set()
                await self._watch()
                backoff = 0.2
            except (ApiError, aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as error:
                status = error.status if isinstance(error, ApiError) else 0
                if status == 410:
                    self._version = ""
                    continue
                if self._optional and status in (403, 404):
                    self._version, self.available = "", False
                    self.synced.set()
                    await asyncio.sleep(WATCH_SECONDS)
                    continue
                _log.warning("watch failed", extra={"resource": self.resource.plural, "error": str(error)})
                await asyncio.sleep(backoff * (0.5 + random.random()))
                backoff = min(backoff * 2, MAX_BACKOFF)

    async def _list(self) -> None:
        path, listed, token = self.resource.path(self._namespace), [], ""
        while True:
            params = {**self._params, "limit": str(PAGE), **({"continue": token} if token else {})}
            page = _LIST.decode(await self._client.get(path, **params))
            listed += [found for raw in page.items if self._accept(found := decode(self.resource.decoded, raw))]
            token = page.metadata.continue_
            if not token:
                break
        self._store.replace(listed, self._namespace, page.metadata.resource_version)
        self._version = page.metadata.resource_version

    async def _watch(self) -> None:
        params = {**self._params, "resourceVersion": self._version, "allowWatchBookmarks": "true"}
        seconds = round(WATCH_SECONDS * (1 + random.random() / 2))
        async for line in self._client.watch(self.resource.path(self._namespace), params, seconds):
            event = _EVENT.decode(line)
            match event.type:
                case "BOOKMARK":
                    self._version = msgspec.json.decode(event.object, type=_Bookmark).metadata.resource_version
                    continue
                case "ERROR":
                    failure = msgspec.json.decode(event.object, type=_Failure)
                    raise ApiError(failure.code, failure.reason, failure.message)
            found = decode(self.resource.decoded, event.object)
            self._version = found.metadata.resource_version
            if event.type == "DELETED":
                self._store.remove(found)
            elif self._accept(found):
                self._store.put(found)
