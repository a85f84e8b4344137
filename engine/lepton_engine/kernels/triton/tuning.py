"""Tile sizes as data: one table a chip in tables/, and a default for chips that nobody has measured.

A table is JSON: `chips`, parts of the device names that it is for; `capability`, the least compute capability;
`limits`, up to how many rows our own products are used;
`kernels`, for each kernel a list of rules. A rule's `max_NAME` entries are upper bounds of the call's sizes; the first
rule that holds gives the rest of its entries as the kernel's tile sizes. The last rule has no bounds.
"""

import json
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch

TABLES = Path(__file__).parent / "tables"
DEFAULT = "default"
_BOUND = "max_"

# What every rule of a kernel gives.
TILES: dict[str, frozenset[str]] = {
    "attention_decode": frozenset({"tile", "warps", "stages"}),
    "attention_mixed": frozenset({"rows", "tile", "warps", "stages"}),
    "attention_invariant": frozenset({"rows", "tile", "split", "warps", "stages"}),
    "matvec": frozenset({"block_n", "block_k", "splits", "warps", "stages"}),
    "matmul": frozenset({"block_m", "block_n", "block_k", "splits", "warps", "stages"}),
    "matmul_invariant": frozenset({"block_m", "block_n", "block_k", "splits", "warps", "stages"}),
    "sampling": frozenset({"chunk", "warps"}),
}

# Up to how many rows our own products are used, for plain and for quantised weights.
LIMITS = frozenset({"dense_rows", "quantized_rows"})


class TuningTableError(ValueError):
    """A table that cannot be used; the message names the file and the entry."""


def check_table(name: str, table: dict[str, Any]) -> None:
    """Raises:
    TuningTableError: a kernel is missing or unknown, a rule lacks an entry, or no rule is left for large sizes.
    """
    limits = table.get("limits")
    if not isinstance(limits, dict) or limits.keys() != LIMITS or not all(isinstance(v, int) for v in limits.values()):
        raise TuningTableError(f"{name}: limits must be integers for exactly {', '.join(sorted(LIMITS))}")
    kernels = table.get("kernels")
    if not isinstance(kernels, dict) or kernels.keys() != TILES.keys():
        raise TuningTableError(f"{name}: kernels must be exactly {', '.join(TILES)}")
    for kernel, rules in kernels.items():
        if not rules or any(key.startswith(_BOUND) for key in rules[-1]):
            raise TuningTableError(f"{name}: the last rule of {kernel} must have no bounds")
        for number, rule in enumerate(rules):
            given = {key for key in rule if not key.startswith(_BOUND)}
            if given != TILES[kernel]:
                wanted = ", ".join(sorted(TILES[kernel]))
                raise TuningTableError(f"{name}: rule {number} of {kernel} gives {sorted(given)}, must give {wanted}")
            for key, value in rule.items():
                if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                    raise TuningTableError(f"{name}: rule {number} of {kernel}: {key} is {value!r}, no positive int")


@cache
def tables() -> dict[str, dict[str, Any]]:
    """All tables by name, checked."""
    found = {}
    for path in sorted(TABLES.glob("*.json")):
        found[path.stem] = json.loads(path.read_text())
        check_table(path.name, found[path.stem])
    return found


def table_for(chip: str, capability: tuple[int, int]) -> str:
    """The name of the table for a device of that name; the default where none is meant for it."""
    for name, table in tables().items():
        if name != DEFAULT and tuple(table["capability"]) <= capability and any(c in chip for c in table["chips"]):
            return name
    return DEFAULT


@cache
def _table_of(device: torch.device) -> str:
    if device.type != "cuda":
        return DEFAULT
    return table_for(torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device))


def limit(name: str, device: torch.device) -> int:
    """One of `LIMITS` for that device."""
    found: int = tables()[_table_of(device)]["limits"][name]
    return found


def pick(kernel: str, device: torch.device, **sizes: int) -> dict[str, int]:
    """The tile sizes of a kernel for a call of those sizes on that device."""
    return _pick(kernel, _table_of(device), tuple(sizes.items()))


@lru_cache(maxsize=4096)
def _pick(kernel: str, table: str, sizes: tuple[tuple[str, int], ...]) -> dict[str, int]:
    known = dict(sizes)
    for rule in tables()[table]["kernels"][kernel]:
        bounds = {key.removeprefix(_BOUND): value for key, value in rule.items() if key.startswith(_BOUND)}
        if all(known[key] <= value for key, value in bounds.items()):
            return {key: value for key, value in rule.items() if not key.startswith(_BOUND)}
    raise TuningTableError(f"{table}: no rule of {kernel} is for {known}")
