"""Names, labels and annotations of what the operator owns."""

import hashlib
from typing import Any

import msgspec

from lepton_operator.api import GROUP
from lepton_operator.api.source import ModelSource

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "lepton-operator"
"""Value of MANAGED_BY, and the field manager of server-side apply."""
MODEL = f"{GROUP}/model"
COMPONENT = f"{GROUP}/component"
SERVER, FETCH = "server", "fetch"
SELECTOR = f"{MANAGED_BY}={MANAGER}"
"""Label selector of everything that the operator watches beside models."""

APPLIED = f"{GROUP}/applied"
"""Annotation: hash of the manifest that was applied; what it no longer has is removed by the next apply."""
SPEC_HASH = f"{GROUP}/spec-hash"
"""Annotation of Deployments: hash of the part of the spec that the pod template was made from."""
TEMPLATE = f"{GROUP}/template"
"""Annotation of Deployments: the pod template as it was applied, kept across upgrades of the operator."""
REPORT = f"{GROUP}/report"
"""Annotation of fetch Jobs: what `lepton fetch` reported."""
GENERATION = f"{GROUP}/generation"
"""Annotation of fetch Jobs: metadata.generation of the model that they were made for."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def labels(model: str, component: str) -> dict[str, str]:
    """Labels of an owned object."""
    return {
        "app.kubernetes.io/name": "lepton",
        "app.kubernetes.io/instance": model,
        MANAGED_BY: MANAGER,
        MODEL: model,
        COMPONENT: component,
    }


def pod_selector(model: str, component: str = SERVER) -> dict[str, str]:
    """Labels that select the pods of a model. Deployments cannot change it: never does it."""
    return {MODEL: model, COMPONENT: component}


def selector_text(model: str) -> str:
    """The same as text, for the scale subresource."""
    return ",".join(f"{key}={value}" for key, value in pod_selector(model).items())


def headless(model: str) -> str:
    """Name of the headless Service."""
    return f"{model}-headless"


def claim(model: str) -> str:
    """Name of the cache's claim."""
    return f"{model}-cache"


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, 16 hexadecimal digits of it."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:16]


def source_key(source: ModelSource) -> str:
    """Names a source: 8 hexadecimal digits. Folders of the cache and fetch Jobs are named by it."""
    return digest(source.source)[:8]
