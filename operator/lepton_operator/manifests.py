"""LeptonModel manifests in files, read without a cluster."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from lepton_operator.api import API_VERSION, KIND
from lepton_operator.crd import model_schema
from lepton_operator.desired.weights import needs_job
from lepton_operator.observed import Model
from lepton_operator.schema import problems

PLANNED_UID = "00000000-0000-0000-0000-000000000000"


class ManifestError(Exception):
    """A file holds no LeptonModel, or one that is not valid; the message says where and why, a line each."""


def models(path: Path) -> Iterator[Model]:
    """The LeptonModels of a YAML file; other objects are passed over.

    Raises:
        ManifestError: no YAML, no LeptonModel, or a value that the schema does not allow.
    """
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ManifestError(f"{path}: {error}") from error
    found = [doc for doc in documents if isinstance(doc, dict) and doc.get("kind") == KIND]
    if not found:
        raise ManifestError(f"{path}: no object of kind {KIND}")
    for document in found:
        yield read_model(document, str(path))


def read_model(document: dict[str, Any], where: str) -> Model:
    """A model from its manifest. Raises ManifestError."""
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str):
        raise ManifestError(f"{where}: metadata.name is required")
    where = f"{where}: {KIND} {name}"
    if document.get("apiVersion") != API_VERSION:
        raise ManifestError(f"{where}: apiVersion: {document.get('apiVersion')!r} is not {API_VERSION}")
    wrong = problems({key: value for key, value in document.items() if key != "status"}, model_schema())
    if wrong:
        raise ManifestError("\n".join(f"{where}: {problem}" for problem in wrong))
    planned = {**document, "metadata": {"namespace": "default", "uid": PLANNED_UID, **metadata}, "status": {}}
    try:
        model = msgspec.convert(planned, Model)
    except msgspec.ValidationError as error:
        raise ManifestError(f"{where}: {error}") from error
    wrong = spec_problems(model)
    if wrong:
        raise ManifestError("\n".join(f"{where}: {problem}" for problem in wrong))
    return model


def spec_problems(model: Model) -> list[str]:
    """What the operator cannot work with, whatever let it pass; the API server refuses these by the CRD's rules."""
    source, found = model.spec.model.source, list[str]()
    given = list(msgspec.to_builtins(source))
    if len(given) != 1:
        found.append(f"spec.model.source: give exactly one source, not {', '.join(given) or 'none'}")
    scaling = model.spec.autoscaling
    if scaling is not None and scaling.min_replicas > scaling.max_replicas:
        low, high = scaling.min_replicas, scaling.max_replicas
        found.append(f"spec.autoscaling: minReplicas {low} must be at most maxReplicas {high}")
    if not found and model.spec.cache is not None and not needs_job(model):
        found.append("spec.cache: is for sources that are fetched: huggingFace, s3, gcs, http")
    return found
