"""The CustomResourceDefinition of LeptonModel."""

from typing import Any

from lepton_operator.api import GROUP, KIND, PLURAL, VERSION, LeptonModelSpec, LeptonModelStatus
from lepton_operator.schema import Schema, schema_of

MAX_NAME = 48
"""Longest name of a LeptonModel: names of Jobs and Services made from it must fit 63 characters."""

_NAME_RULE = {
    "rule": f"size(self.metadata.name) <= {MAX_NAME} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "message": f"the name becomes the name of Services: at most {MAX_NAME} lower-case letters, digits and '-', "
    "beginning with a letter",
}
_COLUMNS = (
    ("Ready", "string", ".status.conditions[?(@.type=='Ready')].status", 0),
    ("Replicas", "integer", ".status.replicas", 0),
    ("Ready-Pods", "integer", ".status.readyReplicas", 0),
    ("Load", "string", ".status.autoscaling.load", 0),
    ("Reason", "string", ".status.conditions[?(@.type=='Degraded')].reason", 0),
    ("Revision", "string", ".status.model.revision", 1),
    ("Endpoint", "string", ".status.endpoint", 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)


def _without_defaults(schema: Any) -> Any:
    """A status is written whole by the operator: the API server adds nothing to it."""
    if isinstance(schema, dict):
        return {name: _without_defaults(part) for name, part in schema.items() if name != "default"}
    return [_without_defaults(part) for part in schema] if isinstance(schema, list) else schema


def model_schema() -> Schema:
    """The schema of the whole object."""
    return {
        "type": "object",
        "description": "A language model, served over gRPC by autoscaled pods.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": schema_of(LeptonModelSpec),
            "status": _without_defaults(schema_of(LeptonModelStatus)),
        },
        "x-kubernetes-validations": [_NAME_RULE],
    }


def crd() -> dict[str, Any]:
    """The manifest."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["lm"],
                "categories": ["all", "lepton"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": model_schema()},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, "priority": priority}
                        for name, kind, path, priority in _COLUMNS
                    ],
                }
            ],
        },
    }
