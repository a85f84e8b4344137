"""How the weights get into a pod: volumes, mounts, and the command that fetches them."""

from dataclasses import dataclass, field
from typing import Any

from lepton_operator import names
from lepton_operator.api.source import Source
from lepton_operator.desired.common import restricted_container
from lepton_operator.observed import Model
from lepton_operator.settings import PodSettings

MODELS = "/models"
CREDENTIALS = "/var/run/secrets/lepton/source"
CURRENT = "current"
_HEX = frozenset("0123456789abcdef")


@dataclass
class Weights:
    """Members of a pod's spec.

    Attributes:
        path: the folder that the server reads; None for the model that it brings along.
        mounts: of the server's container, read-only.
    """

    path: str | None
    volumes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)
    init_containers: list[dict[str, Any]] = field(default_factory=list)


def is_fetched(source: Source) -> bool:
    """Whether `lepton fetch` gets the source."""
    return any(part is not None for part in (source.hugging_face, source.s3, source.gcs, source.http))


def is_pinned(source: Source) -> bool:
    """Whether the source names its content exactly: a commit, or a checksum."""
    hub = source.hugging_face
    if hub is not None:
        return len(hub.revision) == 40 and _HEX.issuperset(hub.revision)
    return source.http is not None and source.http.sha256 is not None


def needs_job(model: Model) -> bool:
    """Whether a Job comes before the pods: to fill the cache, or to find which revision all pods shall fetch."""
    source = model.spec.model.source
    return is_fetched(source) and (model.spec.cache is not None or not is_pinned(source))


def weights(model: Model, settings: PodSettings, revision: str | None) -> Weights:
    """Where the pods of a model find its weights.

    Args:
        revision: what the fetch Job found the source to be; pods without a shared cache fetch exactly this.
    """
    source = model.spec.model.source
    if source.embedded is not None:
        return Weights(source.embedded.path or None)
    if source.oci is not None:
        volume: dict[str, Any] = {"image": {"reference": source.oci.image, "pullPolicy": source.oci.pull_policy.value}}
        return _mounted(volume, source.oci.path)
    if source.pvc is not None:
        volume = {"persistentVolumeClaim": {"claimName": source.pvc.claim, "readOnly": True}}
        return _mounted(volume, source.pvc.path)
    if model.spec.cache is not None:
        volume = {"persistentVolumeClaim": {"claimName": claim_name(model), "readOnly": True}}
        return _mounted(volume, f"{model.metadata.name}/{names.source_key(model.spec.model)}")
    found = _mounted({"emptyDir": {}}, CURRENT)
    secret = credentials_volume(model)
    fetch = fetch_container(model, settings, into=MODELS, link=CURRENT, revision=revision)
    found.init_containers.append(fetch)
    found.volumes.extend(secret)
    return found


def _mounted(volume: dict[str, Any], path: str) -> Weights:
    folder = f"{MODELS}/{path.strip('/')}".rstrip("/")
    mount = {"name": "models", "mountPath": MODELS, "readOnly": True}
    return Weights(folder, [{"name": "models", **volume}], [mount])


def claim_name(model: Model) -> str:
    """The claim that holds the cache."""
    cache = model.spec.cache
    assert cache is not None
    return cache.existing_claim or names.claim(model.metadata.name)


def credentials_volume(model: Model) -> list[dict[str, Any]]:
    """The volume of the source's Secret, which the kubelet mounts; none without a Secret."""
    secret = model.spec.model.secret_ref
    if secret is None:
        return []
    return [{"name": "credentials", "secret": {"secretName": secret.name, "defaultMode": 0o440}}]


def fetch_container(
    model: Model,
    settings: PodSettings,
    *,
    into: str,
    link: str | None = None,
    revision: str | None = None,
    more: tuple[str, ...] = (),
) -> dict[str, Any]:
    """A container that runs `lepton fetch`.

    Args:
        into: folder that is filled. link: name of a link in it to what was fetched. revision: take this one only.
    """
    args = ["fetch", *source_args(model.spec.model.source, revision), f"--into={into}"]
    if link:
        args.append(f"--link={link}")
    if revision:
        args.append(f"--revision={revision}")
    mounts: list[dict[str, Any]] = [{"name": "models", "mountPath": MODELS}, {"name": "tmp", "mountPath": "/tmp"}]
    if model.spec.model.secret_ref is not None:
        args.append(f"--credentials={CREDENTIALS}")
        mounts.append({"name": "credentials", "mountPath": CREDENTIALS, "readOnly": True})
    container: dict[str, Any] = {
        "name": "fetch",
        "image": model.spec.server.image or settings.server_image,
        "command": ["lepton"],
        "args": [*args, *more],
        "env": [{"name": "HOME", "value": "/tmp"}, *environment(model)],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": restricted_container(),
        "volumeMounts": mounts,
    }
    return container


def environment(model: Model) -> list[dict[str, str]]:
    """The spec's environment variables."""
    return [{"name": variable.name, "value": variable.value} for variable in model.spec.pod.env]


def source_args(source: Source, revision: str | None) -> list[str]:
    """A source as arguments of `lepton fetch`.

    Args:
        revision: what it was found to be: the commit, where there are commits.
    """
    if source.hugging_face is not None:
        return [f"hf://{source.hugging_face.repo}@{revision or source.hugging_face.revision}"]
    if source.s3 is not None:
        args = [f"s3://{source.s3.bucket}/{source.s3.prefix}"]
        args += [f"--endpoint={source.s3.endpoint}"] if source.s3.endpoint else []
        return args + ([f"--region={source.s3.region}"] if source.s3.region else [])
    if source.gcs is not None:
        args = [f"gs://{source.gcs.bucket}/{source.gcs.prefix}"]
        return args + ([f"--endpoint={source.gcs.endpoint}"] if source.gcs.endpoint else [])
    assert source.http is not None
    return [source.http.url, *([f"--sha256={source.http.sha256}"] if source.http.sha256 else [])]
