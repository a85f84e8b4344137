"""The pod template: how `lepton serve` runs."""

from typing import Any

import msgspec

from lepton_operator import names
from lepton_operator.api.source import KVCacheScheme, WeightScheme
from lepton_operator.desired.common import (
    CONTROL_PORT,
    INFERENCE_PORT,
    METRICS_PORT,
    restricted_container,
    restricted_pod,
    scheduling,
    service_account,
)
from lepton_operator.desired.weights import environment, weights
from lepton_operator.observed import Deployment, Manifest, Model
from lepton_operator.settings import PodSettings

GENERATION = "lepton.v1.GenerationService"
TLS_FOLDER, CLIENT_CA_FOLDER, AUTH_FOLDER = "/etc/lepton/tls", "/etc/lepton/client-ca", "/etc/lepton/auth"
CONTAINER = "server"
PROBE_SECONDS = 5
GRACE_MARGIN = 10
"""Seconds that the termination grace exceeds the drain by: for the engine's end and the last telemetry."""


def template_inputs(model: Model, revision: str | None) -> str:
    """Hash of all of the spec that the template is made from: while it stays, an operator upgrade rolls no pod."""
    spec = model.spec
    parts = (spec.model, spec.quantization, spec.cache, spec.server, spec.gpu, spec.pod, spec.startup, spec.drain)
    return names.digest([*parts, revision])


def pod_template(model: Model, settings: PodSettings, revision: str | None) -> Manifest:
    """The template of the pods.

    Args:
        revision: what the fetch Job found the source to be; None where no Job is needed, or it told nothing.
    """
    spec, name = model.spec, model.metadata.name
    found = weights(model, settings, revision)
    volumes = [*found.volumes, {"name": "tmp", "emptyDir": {}}]
    mounts = [*found.mounts, {"name": "tmp", "mountPath": "/tmp"}]
    if spec.pod.shm_size is not None or spec.gpu is not None:
        memory = {"medium": "Memory", "sizeLimit": str(spec.pod.shm_size or "1Gi")}
        volumes.append({"name": "shm", "emptyDir": memory})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    for volume, folder in _server_files(model):
        volumes.append(volume)
        mounts.append({"name": volume["name"], "mountPath": folder, "readOnly": True})

    pod: dict[str, Any] = {
        "serviceAccountName": service_account(model),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": spec.drain.propagation_seconds + spec.drain.timeout_seconds + GRACE_MARGIN,
        "securityContext": restricted_pod(),
        "containers": [
            {
                "name": CONTAINER,
                "image": spec.server.image or settings.server_image,
                "command": ["lepton"],
                "args": serve_args(model, settings, found.path),
                "env": [{"name": "HOME", "value": "/tmp"}, *environment(model)],
                "ports": [
                    {"name": "grpc", "containerPort": INFERENCE_PORT, "protocol": "TCP"},
                    {"name": "control", "containerPort": CONTROL_PORT, "protocol": "TCP"},
                    {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
                ],
                "resources": _resources(model),
                "startupProbe": _probe(GENERATION, PROBE_SECONDS, -(-spec.startup.timeout_seconds // PROBE_SECONDS)),
                "livenessProbe": _probe("", 10, 6),
                "readinessProbe": _probe(GENERATION, PROBE_SECONDS, 2),
                "lifecycle": _pre_stop(spec.drain.propagation_seconds),
                # Of a server that cannot start, the end of its log is what the conditions tell.
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "securityContext": restricted_container(),
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
        **scheduling(model),
    }
    if found.init_containers:
        pod["initContainers"] = found.init_containers
    if spec.pod.topology_spread:
        # Pods of old revisions are counted otherwise, and a rollout would end up lopsided.
        pod["topologySpreadConstraints"] = [
            {
                "topologyKey": spread.topology_key,
                "maxSkew": spread.max_skew,
                "whenUnsatisfiable": spread.when_unsatisfiable.value,
                "labelSelector": {"matchLabels": names.pod_selector(name)},
                "matchLabelKeys": ["pod-template-hash"],
            }
            for spread in spec.pod.topology_spread
        ]
    metadata: dict[str, Any] = {"labels": {**spec.pod.labels, **names.labels(name, names.SERVER)}}
    annotations = {"kubectl.kubernetes.io/default-container": CONTAINER, **spec.pod.annotations}
    metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": pod}


def serve_args(model: Model, settings: PodSettings, path: str | None) -> list[str]:
    """Arguments of the container: `lepton serve` and its flags."""
    spec = model.spec
    args = ["serve"]
    if path is not None:
        args.append(path)
    args += [
        "--host=0.0.0.0",
        "--control-host=0.0.0.0",
        "--metrics-host=0.0.0.0",
        f"--metrics-port={METRICS_PORT}",
        f"--served-model-name={spec.model.served_name or model.metadata.name}",
        # preStop has let clients and endpoints learn already.
        "--drain-propagation=0",
        f"--drain-timeout={spec.drain.timeout_seconds}",
        f"--device={'cpu' if spec.gpu is None else 'cuda'}",
    ]
    if spec.quantization.weights is not WeightScheme.NONE:
        args.append(f"--quantization={spec.quantization.weights.value}")
    if spec.quantization.kv_cache is not KVCacheScheme.AUTO:
        args.append(f"--kv-cache-dtype={spec.quantization.kv_cache.value}")
    if spec.server.max_concurrent_streams is not None:
        args.append(f"--max-num-seqs={spec.server.max_concurrent_streams}")
    if spec.server.max_stream_seconds is not None:
        args.append(f"--max-stream-seconds={spec.server.max_stream_seconds}")
    if spec.server.tls is not None:
        args += [f"--tls-cert={TLS_FOLDER}/tls.crt", f"--tls-key={TLS_FOLDER}/tls.key"]
        if spec.server.tls.client_ca is not None:
            args.append(f"--tls-client-ca={CLIENT_CA_FOLDER}/ca.crt")
    if spec.server.auth is not None:
        args.append(f"--auth-tokens={AUTH_FOLDER}/tokens")
    return [*args, *settings.default_args, *spec.server.args]


def _server_files(model: Model) -> list[tuple[dict[str, Any], str]]:
    """Volumes of the server's Secrets and ConfigMaps, and the folders that they are mounted at."""
    server = model.spec.server
    found: list[tuple[dict[str, Any], str]] = []
    if server.tls is not None:
        secret = {"secretName": server.tls.secret_name, "defaultMode": 0o440}
        found.append(({"name": "tls", "secret": secret}, TLS_FOLDER))
        if server.tls.client_ca is not None:
            found.append(({"name": "client-ca", "configMap": {"name": server.tls.client_ca}}, CLIENT_CA_FOLDER))
    if server.auth is not None:
        secret = {"secretName": server.auth.tokens_secret, "defaultMode": 0o440}
        found.append(({"name": "auth", "secret": secret}, AUTH_FOLDER))
    return found


def _resources(model: Model) -> dict[str, Any]:
    resources = model.spec.pod.resources
    requests = {name: str(value) for name, value in resources.requests.items()}
    limits = {name: str(value) for name, value in resources.limits.items()}
    if model.spec.gpu is not None:
        requests[model.spec.gpu.resource] = limits[model.spec.gpu.resource] = str(model.spec.gpu.count)
    return {name: part for name, part in (("requests", requests), ("limits", limits)) if part}


def _probe(service: str, period: int, failures: int) -> dict[str, Any]:
    """A gRPC probe of the control port, which is plaintext: the kubelet's probes speak no TLS."""
    return {
        "grpc": {"port": CONTROL_PORT, "service": service},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }


def _pre_stop(propagation: int) -> dict[str, Any]:
    return {"preStop": {"sleep": {"seconds": propagation}}} if propagation else {}


def encode_template(template: Manifest) -> str:
    """A template as an annotation's value, which the largest spec must not make too long.

    It is without the affinity, which alone may be larger than annotations can be, and without the environment of the
    init containers, which is the server's.
    """
    spec = {key: value for key, value in template["spec"].items() if key != "affinity"}
    if "initContainers" in spec:
        spec["initContainers"] = [{**container, "env": []} for container in spec["initContainers"]]
    return msgspec.json.encode({**template, "spec": spec}, order="sorted").decode()


def decode_template(deployment: Deployment, model: Model | None) -> Manifest | None:
    """The template that a Deployment was given; None when its note of it cannot be read.

    Args:
        model: whose affinity it has; None when the spec has changed since, and the Deployment itself must tell.
    """
    try:
        template = msgspec.json.decode(deployment.metadata.annotations.get(names.TEMPLATE, ""))
        if model is None:
            affinity = msgspec.json.decode(deployment.raw)["spec"]["template"]["spec"].get("affinity")
        else:
            affinity = scheduling(model).get("affinity")
        if affinity is not None:
            template["spec"]["affinity"] = affinity
        for container in template["spec"].get("initContainers", []):
            container["env"] = template["spec"]["containers"][0]["env"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return None
    found: Manifest = template
    return found
