"""From the API's JSON to pruned objects."""

from functools import cache
from typing import Any, TypeVar

import msgspec

from lepton_operator.observed import Child, Model, Object, Unreadable

T = TypeVar("T", bound=Object)

_KEPT_METADATA = ("labels", "annotations", "ownerReferences")
_PARTS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_METADATA = msgspec.json.Decoder(dict[str, msgspec.Raw])


@cache
def _decoder(kind: type[Any]) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(kind)


def decode(kind: type[Object], raw: bytes | msgspec.Raw) -> Object:
    """An object of a kind.

    A LeptonModel that this operator cannot read (a newer schema, or one that was changed under it) becomes Unreadable.

    Raises:
        msgspec.DecodeError: no such object at all.
    """
    if kind is Model:
        try:
            found: Object = _decoder(Model).decode(raw)
            return found
        except msgspec.ValidationError as error:
            return _unreadable(raw, str(error))
    found = _decoder(kind).decode(raw)
    if isinstance(found, Child):
        return msgspec.structs.replace(found, raw=_pruned(raw))
    return found


def _unreadable(raw: bytes | msgspec.Raw, problem: str) -> Unreadable:
    """What can be known of such an object: its metadata, and its status where that is in order."""
    try:
        found: Unreadable = _decoder(Unreadable).decode(raw)
    except msgspec.ValidationError:
        head: Object = _decoder(Object).decode(raw)
        found = Unreadable(metadata=head.metadata)
    return msgspec.structs.replace(found, problem=problem)


def _pruned(raw: bytes | msgspec.Raw) -> bytes:
    parts: dict[str, Any] = dict(_PARTS.decode(raw))
    metadata = _METADATA.decode(parts.pop("metadata"))
    for name in ("status", "apiVersion", "kind"):
        parts.pop(name, None)
    kept = {name: metadata[name] for name in _KEPT_METADATA if name in metadata}
    return msgspec.json.encode({"metadata": kept, **parts})
