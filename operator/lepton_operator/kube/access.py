"""How to reach the API server: the pod's ServiceAccount, or a kubeconfig."""

import base64
import json
import os
import ssl
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_SECONDS = 60.0
"""A token in a file is read again this often: the kubelet renews it."""
EXEC_TIMEOUT = 60


class AccessError(Exception):
    """No way to an API server; the message says what is missing."""


@dataclass
class Access:
    """A server and credentials.

    Attributes:
        server: its URL. tls: None for plain HTTP. token: gives the bearer token of the moment, or None.
        namespace: the one that the credentials come with.
    """

    server: str
    tls: ssl.SSLContext | None
    token: Callable[[], str | None]
    namespace: str = "default"


def find_access(kubeconfig: Path | None = None, context: str | None = None) -> Access:
    """The access to use: a kubeconfig that is named, the pod's own, $KUBECONFIG, ~/.kube/config.

    Raises:
        AccessError.
    """
    if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ and SERVICE_ACCOUNT.exists():
        return _in_cluster()
    named = kubeconfig or Path(
        os.environ.get("KUBECONFIG", "").split(os.pathsep)[0] or Path.home() / ".kube" / "config"
    )
    if not named.exists():
        raise AccessError(f"no cluster: this is no pod, and there is no kubeconfig at {named}")
    return from_kubeconfig(named, context)


def _in_cluster() -> Access:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host
    tls = ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt"))
    namespace = (SERVICE_ACCOUNT / "namespace").read_text().strip()
    return Access(f"https://{host}:{port}", tls, _token_file(SERVICE_ACCOUNT / "token"), namespace)


def from_kubeconfig(path: Path, context: str | None = None) -> Access:
    """The access that a context of a kubeconfig describes. Raises AccessError."""
    try:
        config = yaml.safe_load(path.read_text())
        chosen = _named(config, "contexts", context or config.get("current-context", ""), "context")
        cluster = _named(config, "clusters", chosen["cluster"], "cluster")
        user = _named(config, "users", chosen["user"], "user") if chosen.get("user") else {}
        tls = _tls(cluster, user, path.parent) if cluster["server"].startswith("https") else None
        return Access(cluster["server"].rstrip("/"), tls, _token(user, path.parent), chosen.get("namespace", "default"))
    except (OSError, yaml.YAMLError, ssl.SSLError, ValueError) as error:
        raise AccessError(f"{path}: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise AccessError(f"{path}: this is no kubeconfig: {error!r}") from error


def _named(config: dict[str, Any], kind: str, name: str, member: str) -> dict[str, Any]:
    for entry in config.get(kind) or []:
        if entry["name"] == name:
            found: dict[str, Any] = entry[member]
            return found
    raise ValueError(f"{kind} has no {name!r}")


def _tls(cluster: dict[str, Any], user: dict[str, Any], folder: Path) -> ssl.SSLContext:
    authority = _data(cluster, "certificate-authority", folder)
    tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    certificate, key = _data(user, "client-certificate", folder), _data(user, "client-key", folder)
    if certificate and key:
        _load_pair(tls, certificate, key)
    return tls


def _load_pair(tls: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """`ssl` reads pairs from files only: an anonymous one in memory never touches a disk."""
    handle = os.memfd_create("pair") if hasattr(os, "memfd_create") else None
    if handle is None:
        raise ValueError("client certificates need Linux (memfd)")
    with open(handle, "wb", closefd=True) as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        tls.load_cert_chain(f"/proc/self/fd/{handle}")


def _data(entry: dict[str, Any], name: str, folder: Path) -> bytes | None:
    if f"{name}-data" in entry:
        return base64.b64decode(entry[f"{name}-data"])
    return (folder / entry[name]).read_bytes() if name in entry else None


def _token(user: dict[str, Any], folder: Path) -> Callable[[], str | None]:
    if "tokenFile" in user:
        return _token_file(folder / user["tokenFile"])
    if "exec" in user:
        return _token_command(user["exec"])
    fixed: str | None = user.get("token")
    return lambda: fixed


def _token_file(path: Path) -> Callable[[], str | None]:
    read: list[tuple[float, str]] = []

    def token() -> str:
        now = time.monotonic()
        if not read or now - read[0][0] > TOKEN_SECONDS:
            read[:] = [(now, path.read_text().strip())]
        return read[0][1]

    return token


def _token_command(spec: dict[str, Any]) -> Callable[[], str | None]:
    """A credential plugin (client.authentication.k8s.io); asked again when its token has run out."""
    kept: list[tuple[float, str | None]] = []

    def token() -> str | None:
        now = time.monotonic()
        if not kept or now >= kept[0][0]:
            environment = {**os.environ, **{entry["name"]: entry["value"] for entry in spec.get("env") or []}}
            command = [spec["command"], *(spec.get("args") or [])]
            done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=EXEC_TIMEOUT)
            status = json.loads(done.stdout).get("status", {})
            kept[:] = [(now + TOKEN_SECONDS, status.get("token"))]
        return kept[0][1]

    return token
