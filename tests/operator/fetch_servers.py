"""Servers that speak as much of the Hub's, S3's and GCS's protocols, and of HTTP, as `lepton fetch` needs.

They can break a connection after some bytes, demand credentials, and serve other bytes than they promise.
"""

import hashlib
import json
import threading
from base64 import b64encode
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Server:
    """A server on loopback.

    Attributes:
        files: content by path. corrupt: paths whose bytes are wrong. break_after: bytes after which each of the next
            `breaks` downloads ends. token: what must be sent. requests: (method, path, range) of each.
    """

    def __init__(self, answer: "Callable[[Server, Handler], None]") -> None:
        self.files: dict[str, bytes] = {}
        self.corrupt: set[str] = set()
        self.breaks, self.break_after = 0, 0
        self.token: str | None = None
        self.status: int | None = None
        self.requests: list[tuple[str, str, str | None]] = []
        self.commit = "c" * 40
        server = self

        class Bound(Handler):
            def respond(self) -> None:
                server.requests.append((self.command, unquote(urlsplit(self.path).path), self.headers.get("Range")))
                if server.status is not None:
                    self.reply(server.status, b"{}")
                else:
                    answer(server, self)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def allowed(self, handler: "Handler") -> bool:
        return self.token is None or handler.headers.get("Authorization") == f"Bearer {self.token}"

    def send(self, handler: "Handler", name: str, headers: dict[str, str]) -> None:
        """A file, or the range of it that is asked for; perhaps broken or wrong."""
        content = self.files[name]
        if name in self.corrupt:
            content = bytes(byte ^ 1 for byte in content)
        wanted, status, total = handler.headers.get("Range"), 200, len(content)
        if wanted is not None:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last) + 1 if last else total, total)
            content, status = content[begin:end], 206
            headers = {**headers, "Content-Range": f"bytes {begin}-{end - 1}/{total}"}
        cut = None
        if handler.command == "GET" and self.breaks and len(content) > self.break_after:
            self.breaks -= 1
            cut = self.break_after
        handler.reply(status, content, headers, cut)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"

    def respond(self) -> None:
        raise NotImplementedError

    do_GET = do_HEAD = lambda self: self.respond()

    def reply(
        self, status: int, content: bytes = b"", headers: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content if cut is None else content[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def git_hash(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def hub(server: Server, handler: Handler) -> None:
    """The Hub: the repository owner/name at the branch main; .safetensors are LFS files."""
    path = unquote(urlsplit(handler.path).path)
    if not server.allowed(handler):
        handler.reply(401, b"{}")
        return
    if path.startswith("/api/models/owner/name/revision/"):
        if path.rpartition("/")[2] not in ("main", server.commit):
            handler.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        siblings = []
        for name, content in server.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git_hash(content)}
            if name.endswith(".safetensors"):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 130}
            siblings.append(entry)
        body = {"id": "owner/name", "sha": server.commit, "siblings": siblings, "private": False, "tags": []}
        handler.reply(
            200, json.dumps({**body, "downloads": 0, "likes": 0}).encode(), {"Content-Type": "application/json"}
        )
        return
    prefix = f"/owner/name/resolve/{server.commit}/"
    if path.startswith(prefix) and path[len(prefix) :] in server.files:
        server.send(handler, path[len(prefix) :], {"X-Repo-Commit": server.commit})
        return
    handler.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})


def s3(server: Server, handler: Handler) -> None:
    """S3 with path-style names: the bucket `bucket`."""
    parts = urlsplit(handler.path)
    path, query = unquote(parts.path), parse_qs(parts.query)
    if server.token is not None and server.token not in handler.headers.get("Authorization", ""):
        handler.reply(403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
        return
    if path.strip("/") == "bucket":
        prefix = query.get("prefix", [""])[0]
        contents = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{len(content)}</Size>"
            f'<ETag>"{hashlib.md5(content).hexdigest()}"</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified>'
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for name, content in server.files.items()
            if name.startswith(prefix)
        )
        body = f"<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        handler.reply(200, body.encode(), {"Content-Type": "application/xml"})
        return
    name = path.removeprefix("/bucket/")
    if name not in server.files:
        handler.reply(404, b"<Error><Code>NoSuchKey</Code></Error>")
        return
    server.send(handler, name, {"ETag": f'"{hashlib.md5(server.files[name]).hexdigest()}"'})


def gcs(server: Server, handler: Handler) -> None:
    """GCS's JSON API: the bucket `bucket`."""
    parts = urlsplit(handler.path)
    path, query = unquote(parts.path), parse_qs(parts.query)

    def described(name: str) -> dict[str, Any]:
        content = server.files[name]
        return {
            "kind": "storage#object", "name": name, "bucket": "bucket", "size": str(len(content)), "etag": "e" + name,
            "md5Hash": b64encode(hashlib.md5(content).digest()).decode(), "generation": "1",
            "updated": "2026-01-01T00:00:00.000Z", "mediaLink": f"{server.url}/download/storage/v1/b/bucket/o/{name}",
        }  # fmt: skip

    if path.endswith(("/b/bucket/o", "/b/bucket/o/")):
        prefix = query.get("prefix", [""])[0]
        items = [described(name) for name in server.files if name.startswith(prefix)]
        handler.reply(200, json.dumps({"items": items}).encode(), {"Content-Type": "application/json"})
        return
    name = path.partition("/b/bucket/o/")[2]
    if name not in server.files:
        handler.reply(404, b'{"error": {"code": 404, "message": "no such object"}}')
    elif query.get("alt") == ["media"] or "/download/" in path:
        server.send(handler, name, {})
    else:
        handler.reply(200, json.dumps(described(name)).encode(), {"Content-Type": "application/json"})


def plain(server: Server, handler: Handler) -> None:
    """Files by path."""
    name = unquote(urlsplit(handler.path).path).strip("/")
    if not server.allowed(handler):
        handler.reply(403)
    elif name not in server.files:
        handler.reply(404)
    else:
        server.send(handler, name, {"ETag": f'"{git_hash(server.files[name])}"'})
