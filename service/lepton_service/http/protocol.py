"""Connections of the HTTP port: uvicorn's, with bounded heads and the peer's certificate."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0


class Protocol(HttpToolsProtocol):
    """Ends connections whose request line and headers grow too long or take too long.

    Tells requests who the peer's certificate says that it is (`security` in the scope's state).
    """

    _head = 0  # bytes of the head so far
    _in_head = True
    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A connection has come."""
        super().connection_made(transport)
        certificate = transport.get_extra_info("peercert")
        if certificate:
            self.app_state = {**self.app_state, "security": security(certificate)}
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has gone."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some of a request has come."""
        if self._in_head and self._limit is None:
            self._arm()
        self._head += len(data)
        super().data_received(data)
        if self._in_head and self._head > HEAD_BYTES and not self.transport.is_closing():
            self._end(b"431 Request Header Fields Too Large")

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._in_head = False
        self._disarm()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is complete: what comes now is the next head."""
        self._in_head = True
        self._head = 0
        super().on_message_complete()

    def _arm(self) -> None:
        self._limit = self.loop.call_later(HEAD_SECONDS, self._late)

    def _disarm(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _late(self) -> None:
        self._limit = None
        if not self.transport.is_closing():
            self._end(b"408 Request Timeout")

    def _end(self, status: bytes) -> None:
        """Closes; tells why, unless an earlier request's answer is on its way."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()


def security(certificate: dict[str, Any]) -> dict[str, list[bytes]]:
    """A peer's certificate, as `ssl` gives it, as properties of gRPC's `auth_context`."""
    names = [value.encode() for kind, value in certificate.get("subjectAltName", ())]
    common = [value.encode() for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    found = {"x509_common_name": common, "x509_subject_alternative_name": names}
    return {"transport_security_type": [b"ssl"], **{key: values for key, values in found.items() if values}}
