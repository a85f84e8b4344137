"""The cache's claim, and the Jobs that fill and clean it."""

from typing import Any

from lepton_operator import names
from lepton_operator.desired.common import manifest, restricted_pod, scheduling, service_account
from lepton_operator.desired.weights import MODELS, claim_name, credentials_volume, fetch_container
from lepton_operator.fetch.exits import FINAL
from lepton_operator.observed import Manifest, Model
from lepton_operator.settings import PodSettings

RETRIES = 6
WEIGHT_ARGS = ("--report=/dev/termination-log",)


def cache_claim(model: Model) -> Manifest | None:
    """The claim; None where there is no cache, or it has a claim already."""
    cache = model.spec.cache
    if cache is None or cache.size is None:
        return None
    made = manifest(model, "v1", "PersistentVolumeClaim", names.claim(model.metadata.name))
    made["spec"] = {
        "accessModes": [cache.access_mode.value],
        "resources": {"requests": {"storage": str(cache.size)}},
    }
    if cache.storage_class_name is not None:
        made["spec"]["storageClassName"] = cache.storage_class_name
    return made


def fetch_job_name(model: Model) -> str:
    """Name of the Job that fetches the present source: another source, another Job."""
    return f"{model.metadata.name}-fetch-{names.source_key(model.spec.model)}"


def fetch_job(model: Model, settings: PodSettings, report: str | None) -> Manifest:
    """The Job that fills the cache, or without one finds which revision the pods shall fetch.

    Args:
        report: what its pod has reported, kept beyond the pod's life.
    """
    key = names.source_key(model.spec.model)
    made = _job(model, settings, fetch_job_name(model), _fetch_args(model), key)
    made["metadata"]["annotations"] = {names.GENERATION: str(model.metadata.generation)}
    if report is not None:
        made["metadata"]["annotations"][names.REPORT] = report
    return made


def prune_job(model: Model, settings: PodSettings) -> Manifest:
    """The Job that removes the folders of former sources."""
    key = names.source_key(model.spec.model)
    return _job(model, settings, f"{model.metadata.name}-prune-{key}", ("--prune",), key)


def _fetch_args(model: Model) -> tuple[str, ...]:
    return WEIGHT_ARGS if model.spec.cache is not None else (*WEIGHT_ARGS, "--resolve-only")


def _job(model: Model, settings: PodSettings, name: str, more: tuple[str, ...], key: str) -> Manifest:
    made = manifest(model, "batch/v1", "Job", name, names.FETCH)
    models: dict[str, Any] = {"name": "models", "emptyDir": {}}
    if model.spec.cache is not None:
        models = {"name": "models", "persistentVolumeClaim": {"claimName": claim_name(model)}}
    container = fetch_container(model, settings, into=f"{MODELS}/{model.metadata.name}", link=key, more=more)
    made["spec"] = {
        "backoffLimit": RETRIES,
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": "fetch", "operator": "In", "values": sorted(FINAL)},
                }
            ]
        },
        "template": {
            "metadata": {
                "labels": {**model.spec.pod.labels, **names.labels(model.metadata.name, names.FETCH)},
                "annotations": {"kubectl.kubernetes.io/default-container": "fetch"},
            },
            "spec": {
                "restartPolicy": "Never",
                "serviceAccountName": service_account(model),
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "securityContext": restricted_pod(),
                "containers": [container],
                "volumes": [models, {"name": "tmp", "emptyDir": {}}, *credentials_volume(model)],
                **scheduling(model),
            },
        },
    }
    return made
