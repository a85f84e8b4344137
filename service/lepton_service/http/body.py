"""Request bodies: read within bounds, decoded strictly."""

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec

from lepton_service.http.errors import HTTPError, invalid

BODY_SECONDS = 60.0
# What is too large is still read for a while, and dropped: a client that is cut off while it sends sees no answer.
DROPPED_BYTES = 64 * 1024 * 1024
DROPPED_SECONDS = 5.0

_PATH = re.compile(r" - at (`key` in )?`\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>[^`]*)`")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")

T = TypeVar("T")
Receive = Callable[[], Awaitable[Any]]


async def read(headers: Mapping[str, str], receive: Receive, limit: int) -> bytes:
    """A whole JSON body.

    Args:
        headers: by lower-case name. limit: the most bytes that it may have.

    Raises:
        HTTPError: it is too large, too slow, or said to be something else than JSON.
        ConnectionError: the client has gone.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPError(415, f"content-type: {kind[:100]!r} is not supported, application/json is required")
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise HTTPError(415, f"content-encoding: {headers['content-encoding'][:100]!r} is not supported")
    if headers.get("content-length", "").isdecimal() and int(headers["content-length"]) > limit:
        if headers.get("expect", "").lower() != "100-continue":
            await _drop(receive)
        raise _too_large(limit)
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise ConnectionError("the client has gone")
                data += message["body"]
                if len(data) > limit:
                    if message.get("more_body"):
                        await _drop(receive)
                    raise _too_large(limit)
                if not message.get("more_body"):
                    return bytes(data)
    except TimeoutError as error:
        raise HTTPError(408, f"the request's body did not arrive within {BODY_SECONDS:g} s", close=True) from error


async def _drop(receive: Receive) -> None:
    dropped = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DROPPED_SECONDS):
            while dropped < DROPPED_BYTES:
                message = await receive()
                dropped += len(message.get("body", b""))
                if not message.get("more_body"):
                    return


def _too_large(limit: int) -> HTTPError:
    message = f"the request's body is too large, at most {limit} bytes are allowed"
    return HTTPError(413, message, code="request_too_large", close=True)


def decode(data: bytes, kind: type[T]) -> T:
    """A body as a request's structure: unknown fields and wrong types are refused.

    Raises:
        HTTPError: it is not JSON, or not such a structure; the error names the field and the value found.
    """
    try:
        data.decode()  # msgspec takes what it keeps raw (schemas) without looking whether it is UTF-8
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise _refused(str(error), data) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPError(400, f"the request's body is not JSON: {error}", code="invalid_json") from error


def _refused(text: str, data: bytes) -> HTTPError:
    match = _PATH.search(text)
    path = match["path"] if match else ""
    reason = text[: match.start()] if match else text
    unknown = _UNKNOWN.match(reason)
    if unknown:
        field = f"{path}.{unknown['name']}" if path else unknown["name"]
        return invalid(field, "is not a field of this request", code="unknown_field")
    if not path:
        return invalid("body", _sentence(reason))
    return invalid(path, f"{_shown(data, path)}: {_sentence(reason)}")


def _sentence(reason: str) -> str:
    return reason[:1].lower() + reason[1:].replace("`", "")


def _shown(data: bytes, path: str) -> str:
    """The value at a path, cut short; what cannot be found is said to be so."""
    try:
        value = json.loads(data)
        for name, index in _STEP.findall(path):
            value = value[int(index)] if index else value[name]
        text = json.dumps(value, ensure_ascii=False)
    except (ValueError, LookupError, TypeError, RecursionError):
        return "has a value that is not allowed"
    return text if len(text) <= 100 else text[:100] + "..."
