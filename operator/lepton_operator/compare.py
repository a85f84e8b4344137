"""Whether a live object still is what was applied: every wanted field is there with the wanted value.

What others have added is left alone. The API server fills in defaults, brings quantities into canonical form and drops
empty values; none of these counts as a difference.
"""

import re
from decimal import Decimal
from typing import Any

_MERGE_KEYS = ("name", "containerPort", "port", "mountPath", "type", "key", "topologyKey", "uid", "ip")
_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")
_QUANTITY_FIELDS = frozenset({"requests", "limits", "sizeLimit"})
_FACTORS = {
    "": Decimal(1), "m": Decimal("0.001"), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18), "Ki": Decimal(2**10), "Mi": Decimal(2**20),
    "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip


def quantity(text: str) -> Decimal | None:
    """The value of a quantity; None for a text that is none."""
    match = _QUANTITY.match(text)
    return None if match is None else Decimal(match[1]) * _FACTORS[match[2] or ""]


def matches(wanted: Any, live: Any, field: str = "") -> bool:
    """Whether `live` has all of `wanted`.

    Args:
        field: name of the member that both are values of.
    """
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            return not wanted and live is None
        below = "quantity" if field in _QUANTITY_FIELDS else ""
        return all(matches(value, live.get(key), below or key) for key, value in wanted.items())
    if isinstance(wanted, list):
        return _lists_match(wanted, live)
    if wanted == live and type(wanted) is type(live):
        return True
    if live is None:
        return not wanted  # Dropped when it was stored, since it is empty.
    if (field == "quantity" or field in _QUANTITY_FIELDS) and isinstance(wanted, str) and isinstance(live, str):
        value = quantity(wanted)
        return value is not None and value == quantity(live)
    return False


def _lists_match(wanted: list[Any], live: Any) -> bool:
    if not isinstance(live, list):
        return not wanted and live is None
    keyed = _key_of(wanted)
    if keyed is None:
        # An atomic list: it is ours as a whole.
        return len(wanted) == len(live) and all(matches(w, v) for w, v in zip(wanted, live, strict=True))
    by_key = {item.get(keyed): item for item in live if isinstance(item, dict)}
    return all(item[keyed] in by_key and matches(item, by_key[item[keyed]]) for item in wanted)


def _key_of(items: list[Any]) -> str | None:
    """The member that tells the items of a list apart, as Kubernetes merges such lists; None for an atomic list."""
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    for key in _MERGE_KEYS:
        values = [item.get(key) for item in items]
        if None not in values and len(set(map(str, values))) == len(values):
            return key
    return None
