"""What the types of the resource share: how fields are named in JSON, and the notes that the schema is made from."""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

GROUP = "lepton.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "LeptonModel"
PLURAL = "leptonmodels"

_ACRONYMS = {
    "client_ca": "clientCA",
    "target_kv_percent": "targetKVPercent",
    "from_": "from",
    "except_": "except",
}


def json_name(name: str) -> str:
    """The name of a field in JSON: camel case, acronyms in capitals."""
    if name in _ACRONYMS:
        return _ACRONYMS[name]
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


class Struct(msgspec.Struct, frozen=True, omit_defaults=True, rename=json_name):
    """Base of the spec's types: frozen, camel case in JSON, defaults left out when encoded.

    That defaults are left out makes the encoding (and its hash) independent of fields that the schema gains later.
    """


Rule = tuple[str, str]  # a CEL expression, and the help that is shown when it is false


def rules(*pairs: Rule) -> Callable[[type], type]:
    """Attaches CEL rules to a type; the schema has them as x-kubernetes-validations of its object."""

    def attach(cls: type) -> type:
        RULES[cls] = pairs
        return cls

    return attach


RULES: dict[type, tuple[Rule, ...]] = {}


def meta(description: str, *, cel: tuple[Rule, ...] = (), extra: dict[str, Any] | None = None, **bounds: Any) -> Meta:
    """A field's description, bounds and CEL rules.

    Args:
        extra: further members of the schema, such as `x-kubernetes-list-type`.
        bounds: as `msgspec.Meta` takes them: ge, le, min_length, max_length, pattern.
    """
    schema: dict[str, Any] = dict(extra or {})
    if cel:
        schema["x-kubernetes-validations"] = [{"rule": rule, "message": message} for rule, message in cel]
    return Meta(description=description, extra_json_schema=schema or None, **bounds)


LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$"
LABEL_KEY = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
NO_CONTROL = r"^[^\x00-\x08\x0b-\x1f\x7f]*$"  # tab and newline are allowed

ObjectName = Annotated[str, Meta(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
LabelKey = Annotated[str, Meta(min_length=1, max_length=317)]
LabelValue = Annotated[str, Meta(max_length=63, pattern=LABEL_VALUE)]
Labels = Annotated[dict[LabelKey, LabelValue], Meta(max_length=16)]
Quantity = Annotated[int | str, Meta(extra_json_schema={"pattern": QUANTITY, "maxLength": 32})]
"""A Kubernetes quantity, such as `500m`, 2 or `16Gi`."""
