"""The API of external metrics, as KEDA's metrics server is one: metrics have the value that standard input said last.

python -m tests.cluster.external_metrics CERTIFICATE KEY PORT
"""

import json
import ssl
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ROOT = "/apis/external.metrics.k8s.io/v1beta1"
GROUP = "external.metrics.k8s.io/v1beta1"


class Metrics(ThreadingHTTPServer):
    """Listens on 127.0.0.1."""

    value = "0"


class Handler(BaseHTTPRequestHandler):
    """Discovery, and values: `/namespaces/NAMESPACE/METRIC`."""

    server: Metrics

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        body: dict[str, Any] | None = None
        if path == ROOT:
            resource = {"name": "externalmetrics", "singularName": "", "namespaced": True, "verbs": ["get"]}
            body = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP}
            body["resources"] = [{**resource, "kind": "ExternalMetricValueList"}]
        elif path.startswith(f"{ROOT}/namespaces/"):
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            name = path.rpartition("/")[2]
            item = {"metricName": name, "metricLabels": {}, "timestamp": now, "value": self.server.value}
            body = {"kind": "ExternalMetricValueList", "apiVersion": GROUP, "metadata": {}, "items": [item]}
        data = json.dumps(body or {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}).encode()
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def main() -> None:
    """Serve until standard input closes; each line is a value."""
    certificate, key, port = sys.argv[1:]
    server = Metrics(("127.0.0.1", int(port)), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        server.value = line.strip()
        print("done", flush=True)


if __name__ == "__main__":
    main()
