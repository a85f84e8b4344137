"""Indices of pruned objects: what the watches have told, and what our own writes were answered with."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol

from lepton_operator import names
from lepton_operator.observed import Object

ModelKey = tuple[str, str]
"""Namespace and name of a LeptonModel."""
_GONE = 10_000


class Keeper(Protocol):
    """What a watch fills."""

    def put(self, found: Object) -> None:
        """Takes in an object that came or changed."""

    def remove(self, found: Object) -> None:
        """Takes in a deletion."""

    def replace(self, listed: Iterable[Object], namespace: str | None, version: str) -> None:
        """Takes in a whole list as of a resource version."""


class Store:
    """The objects of one kind.

    Args:
        changed: told the model of every object that came, changed or went.
    """

    def __init__(self, changed: Callable[[ModelKey], None], *, models: bool = False) -> None:
        self._objects: dict[tuple[str, str], Object] = {}
        self._by_model: dict[ModelKey, set[tuple[str, str]]] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._changed = changed
        self._models = models

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, namespace: str, name: str) -> Object | None:
        """One object."""
        return self._objects.get((namespace, name))

    def of(self, model: ModelKey) -> list[Object]:
        """The objects that belong to a model, by name."""
        return [self._objects[key] for key in sorted(self._by_model.get(model, ()))]

    def names(self) -> list[tuple[str, str]]:
        """Namespace and name of all."""
        return list(self._objects)

    def put(self, found: Object) -> None:
        """Takes in an object, unless a newer version of it is known, or its deletion."""
        if found.metadata.uid in self._gone:
            return
        before = self._objects.get(found.key)
        if (
            before is not None
            and before.metadata.uid == found.metadata.uid
            and not _newer(found.metadata.resource_version, before.metadata.resource_version)
        ):
            return
        if before is not None:
            self._forget(before)
        self._objects[found.key] = found
        model = self._model(found)
        self._by_model.setdefault(model, set()).add(found.key)
        self._changed(model)

    def remove(self, found: Object) -> None:
        """Takes in a deletion."""
        self._gone[found.metadata.uid] = None
        while len(self._gone) > _GONE:
            self._gone.popitem(last=False)
        before = self._objects.get(found.key)
        if before is None or before.metadata.uid != found.metadata.uid:
            return
        del self._objects[found.key]
        self._forget(before)
        self._changed(self._model(before))

    def replace(self, listed: Iterable[Object], namespace: str | None, version: str) -> None:
        """Takes in a whole list: what it lacks is gone, unless it is newer than the list.

        Args:
            namespace: the one that was listed; None for all.
            version: resource version of the list.
        """
        seen = set()
        for found in listed:
            seen.add(found.key)
            self.put(found)
        for key in [k for k in self._objects if k not in seen and namespace in (None, k[0])]:
            before = self._objects[key]
            # What we made while the list was on its way is in no list; taken for gone it would never be seen again.
            if not _newer(before.metadata.resource_version, version):
                self.remove(before)

    def _model(self, found: Object) -> ModelKey:
        if self._models:
            return found.key
        return found.metadata.namespace, found.metadata.labels.get(names.MODEL, "")

    def _forget(self, before: Object) -> None:
        model = self._model(before)
        keys = self._by_model.get(model)
        if keys is not None:
            keys.discard(before.key)
            if not keys:
                del self._by_model[model]


def _newer(new: str, old: str) -> bool:
    """Whether a resource version is newer: those of one kind rise."""
    return int(new) > int(old) if new.isdecimal() and old.isdecimal() else new != old
