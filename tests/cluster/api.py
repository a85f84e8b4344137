"""A small synchronous client of the Kubernetes API: JSON in, JSON out, errors with the server's own words."""

import base64
import http.client
import json
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import yaml

Object = dict[str, Any]
Body = Object | list[Object]
Dial = Callable[[str, int], socket.socket]

# Where a kind is served: its group and version, its plural, whether it is namespaced.
KINDS: dict[str, tuple[str, str, bool]] = {
    "ConfigMap": ("v1", "configmaps", True),
    "Event": ("v1", "events", True),
    "Namespace": ("v1", "namespaces", False),
    "Node": ("v1", "nodes", False),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims", True),
    "Pod": ("v1", "pods", True),
    "ResourceQuota": ("v1", "resourcequotas", True),
    "Secret": ("v1", "secrets", True),
    "Service": ("v1", "services", True),
    "ServiceAccount": ("v1", "serviceaccounts", True),
    "ControllerRevision": ("apps/v1", "controllerrevisions", True),
    "Deployment": ("apps/v1", "deployments", True),
    "ReplicaSet": ("apps/v1", "replicasets", True),
    "HorizontalPodAutoscaler": ("autoscaling/v2", "horizontalpodautoscalers", True),
    "Job": ("batch/v1", "jobs", True),
    "Lease": ("coordination.k8s.io/v1", "leases", True),
    "EndpointSlice": ("discovery.k8s.io/v1", "endpointslices", True),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies", True),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets", True),
    "ClusterRole": ("rbac.authorization.k8s.io/v1", "clusterroles", False),
    "ClusterRoleBinding": ("rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
    "Role": ("rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": ("rbac.authorization.k8s.io/v1", "rolebindings", True),
    "PriorityClass": ("scheduling.k8s.io/v1", "priorityclasses", False),
    "CustomResourceDefinition": ("apiextensions.k8s.io/v1", "customresourcedefinitions", False),
    "APIService": ("apiregistration.k8s.io/v1", "apiservices", False),
    "LeptonModel": ("lepton.dev/v1alpha1", "leptonmodels", True),
    "PodMonitor": ("monitoring.coreos.com/v1", "podmonitors", True),
}


class ApiError(Exception):
    """The server refused.

    Attributes:
        status: HTTP status. reason: the machine's word, as NotFound. message: the server's sentence.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class Access:
    """How to reach an API server as somebody.

    Attributes:
        server: its URL. ca: PEM file of its authority. certificate, key: PEM files of a client's pair, or
        token: a bearer token. dial: how a TCP connection is made; the ordinary way when None.
    """

    server: str
    ca: Path
    certificate: Path | None = None
    key: Path | None = None
    token: str | None = None
    dial: Dial | None = None

    def kubeconfig(self) -> Object:
        """The same as a kubeconfig file's content."""
        user: Object = {"token": self.token} if self.token else {}
        if self.certificate is not None:
            user = {"client-certificate": str(self.certificate), "client-key": str(self.key)}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
            "clusters": [{"name": "tests", "cluster": {"server": self.server, "certificate-authority": str(self.ca)}}],
            "users": [{"name": "tests", "user": user}],
        }

    def write(self, path: Path) -> Path:
        """Write that kubeconfig to a file, and return its path."""
        path.write_text(json.dumps(self.kubeconfig()))
        path.chmod(0o600)
        return path


def from_kubeconfig(path: Path, folder: Path) -> Access:
    """The current context of a kubeconfig with a client certificate or a token; inline data goes into the folder.

    Raises:
        ValueError: it names its user in another way.
    """
    config = yaml.safe_load(path.read_text())
    context = _named(config["contexts"], config["current-context"])["context"]
    cluster = _named(config["clusters"], context["cluster"])["cluster"]
    user = _named(config["users"], context["user"])["user"]

    def file(entry: Object, name: str) -> Path | None:
        if f"{name}-data" in entry:
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as made:
                made.write(base64.b64decode(entry[f"{name}-data"]))
            return Path(made.name)
        return path.parent / entry[name] if name in entry else None

    ca = file(cluster, "certificate-authority")
    certificate, key = file(user, "client-certificate"), file(user, "client-key")
    if ca is None or (certificate is None and "token" not in user):
        raise ValueError(f"{path}: a certificate-authority and a client-certificate or a token are needed")
    return Access(cluster["server"], ca, certificate, key, user.get("token"))


def _named(entries: Sequence[Object], name: str) -> Object:
    return next(entry for entry in entries if entry["name"] == name)


class Api:
    """Calls the API; safe for use by several threads, each of which has its own connection."""

    def __init__(self, access: Access, manager: str = "tests") -> None:
        self.access = access
        self.manager = manager
        self._tls = ssl.create_default_context(cafile=str(access.ca))
        if access.certificate is not None:
            self._tls.load_cert_chain(access.certificate, access.key)
        self._local = threading.local()

    def get(self, kind: str, name: str, namespace: str = "default", subresource: str = "") -> Object:
        """One object. Raises: ApiError."""
        return self.call("GET", self.path(kind, namespace, name, subresource))

    def find(self, kind: str, name: str, namespace: str = "default") -> Object | None:
        """One object, or None. Raises: ApiError for anything but NotFound."""
        try:
            return self.get(kind, name, namespace)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(
        self, kind: str, namespace: str | None = "default", labels: str = "", fields: str = ""
    ) -> Sequence[Object]:
        """All objects of a kind, in one namespace or (None) in all. Raises: ApiError."""
        query = {"labelSelector": labels, "fieldSelector": fields}
        answer = self.call("GET", self.path(kind, namespace), query={k: v for k, v in query.items() if v})
        items: Sequence[Object] = answer["items"]
        return items

    def create(self, body: Object, namespace: str = "default", dry_run: bool = False) -> Object:
        """Create an object. Raises: ApiError."""
        namespace = body.get("metadata", {}).get("namespace", namespace)
        return self.call("POST", self.path(body["kind"], namespace), _complete(body), query=self._query(dry_run))

    def apply(self, body: Object, namespace: str = "default", force: bool = True, manager: str = "") -> Object:
        """Server-side apply. Raises: ApiError."""
        namespace = body.get("metadata", {}).get("namespace", namespace)
        query = {"fieldManager": manager or self.manager, "force": "true" if force else "false"}
        path = self.path(body["kind"], namespace, body["metadata"]["name"])
        return self.call("PATCH", path, _complete(body), query, "application/apply-patch+yaml")

    def patch(self, kind: str, name: str, body: Body, namespace: str = "default", subresource: str = "") -> Object:
        """A merge patch (an object) or a JSON patch (a list). Raises: ApiError."""
        form = "application/json-patch+json" if isinstance(body, list) else "application/merge-patch+json"
        return self.call("PATCH", self.path(kind, namespace, name, subresource), body, self._query(), form)

    def replace(self, body: Object, subresource: str = "") -> Object:
        """Put an object in the place of the one that it was read from. Raises: ApiError."""
        metadata = body["metadata"]
        path = self.path(body["kind"], metadata.get("namespace"), metadata["name"], subresource)
        return self.call("PUT", path, body, self._query())

    def delete(self, kind: str, name: str, namespace: str = "default", options: Object | None = None) -> Object:
        """Delete an object. Raises: ApiError."""
        return self.call("DELETE", self.path(kind, namespace, name), options or {"propagationPolicy": "Background"})

    def delete_all(self, kind: str, namespace: str = "default", labels: str = "") -> Object:
        """Delete all objects of a kind in a namespace. Raises: ApiError."""
        query = {"labelSelector": labels} if labels else {}
        return self.call("DELETE", self.path(kind, namespace), {"propagationPolicy": "Background"}, query)

    def watch(
        self, kind: str, namespace: str | None = "default", labels: str = "", seconds: int = 300
    ) -> Iterator[tuple[str, Object]]:
        """What is there and then what happens, as (type, object), on a connection of its own. Raises: ApiError."""
        query = {"watch": "true", "timeoutSeconds": str(seconds), "labelSelector": labels}
        for line in self.lines(self.path(kind, namespace), query):
            event = json.loads(line)
            yield event["type"], event["object"]

    def lines(self, path: str, query: dict[str, str] | None = None) -> Iterator[str]:
        """An answer line by line as it comes, on a connection of its own: a watch, a log. Raises: ApiError, OSError."""
        connection = self._connect()
        try:
            connection.request("GET", path + ("?" + urlencode(query) if query else ""), headers=self._headers())
            answer = connection.getresponse()
            if answer.status != 200:
                raise _error(answer.status, answer.read())
            for line in answer:
                yield str(line, "utf-8", "replace")
        finally:
            connection.close()

    @staticmethod
    def path(kind: str, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """The path of a collection, an object or a subresource."""
        version, plural, namespaced = KINDS[kind]
        parts = ["api" if "/" not in version else "apis", version]
        if namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts += [plural, *([quote(name)] if name else []), *([subresource] if subresource else [])]
        return "/" + "/".join(parts)

    def call(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        query: dict[str, str] | None = None,
        form: str = "application/json",
    ) -> Object:
        """Any call. A connection that the server has closed meanwhile is made again. Raises: ApiError, OSError."""
        raw = self.text(method, path, body, query, form)
        answer: Object = json.loads(raw) if raw else {}
        return answer

    def text(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        query: dict[str, str] | None = None,
        form: str = "application/json",
    ) -> str:
        """The same, with the answer as it came."""
        data = None if body is None else json.dumps(body)
        target = path + ("?" + urlencode(query) if query else "")
        headers = self._headers() | ({"Content-Type": form} if data is not None else {})
        for fresh in (False, True):
            connection = None if fresh else getattr(self._local, "connection", None)
            reused = connection is not None
            if connection is None:
                connection = self._local.connection = self._connect()
            try:
                connection.request(method, target, data, headers)
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                self._local.connection = None
                if reused:
                    continue
                raise
            if answer.status >= 300:
                raise _error(answer.status, content)
            return str(content, "utf-8")
        raise AssertionError("a fresh connection answers or raises")

    def ready(self) -> bool:
        """Whether the server says that it is."""
        try:
            return self.text("GET", "/readyz") == "ok"
        except (ApiError, OSError, http.client.HTTPException):
            return False

    def _query(self, dry_run: bool = False) -> dict[str, str]:
        return {"fieldManager": self.manager} | ({"dryRun": "All"} if dry_run else {})

    def _headers(self) -> dict[str, str]:
        found = {"Accept": "application/json", "User-Agent": self.manager}
        return found | ({"Authorization": f"Bearer {self.access.token}"} if self.access.token else {})

    def _connect(self) -> http.client.HTTPSConnection:
        address = urlsplit(self.access.server)
        assert address.hostname is not None
        made = http.client.HTTPSConnection(address.hostname, address.port or 443, timeout=60, context=self._tls)
        if self.access.dial is not None:
            plain = self.access.dial(address.hostname, address.port or 443)
            plain.settimeout(60)
            made.sock = self._tls.wrap_socket(plain, server_hostname=address.hostname)
        else:
            made.connect()
        made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made


def eventually(check: Callable[[], Any], what: str, seconds: float = 60, every: float = 0.1) -> Any:
    """Call the check until it returns something true, and return that. Raises: AssertionError, when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; last seen: {found!r}")
        time.sleep(every)


def _complete(body: Object) -> Object:
    return {"apiVersion": KINDS[body["kind"]][0], **body}


def _error(status: int, content: bytes) -> ApiError:
    try:
        answer = json.loads(content)
        return ApiError(status, str(answer.get("reason")), str(answer.get("message")))
    except (ValueError, AttributeError):
        return ApiError(status, "", str(content[:500], "utf-8", "replace"))
