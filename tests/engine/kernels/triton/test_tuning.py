"""Tables of tile sizes: which one a chip gets, which rule a call, and what a broken table says."""

import copy
from typing import Any

import pytest
import torch

from lepton_engine.kernels.triton.tuning import TILES, TuningTableError, check_table, limit, pick, table_for, tables

HOST = torch.device("cpu")


@pytest.mark.parametrize(
    ("chip", "capability", "name"),
    [
        ("NVIDIA H100 80GB HBM3", (9, 0), "h100"),
        ("NVIDIA H200", (9, 0), "h100"),
        ("NVIDIA A100-SXM4-80GB", (8, 0), "default"),
        ("NVIDIA GeForce RTX 9090", (13, 0), "default"),
        ("something H100 in name alone", (8, 0), "default"),
    ],
)
def test_a_chip_without_a_table_gets_the_default(chip: str, capability: tuple[int, int], name: str) -> None:
    assert table_for(chip, capability) == name


def test_the_first_rule_that_holds_counts() -> None:
    rules = tables()["default"]["kernels"]["matvec"]
    assert pick("matvec", HOST, rows=1, n=10**6, k=64, bits=4)["block_k"] == rules[0]["block_k"]
    last = {key: value for key, value in rules[-1].items() if not key.startswith("max_")}
    assert pick("matvec", HOST, rows=1, n=10**6, k=64, bits=16) == last
    assert limit("quantized_rows", HOST) > limit("dense_rows", HOST) > 0


def test_every_table_gives_powers_of_two() -> None:
    for table in tables().values():
        for kernel in TILES:
            for rule in table["kernels"][kernel]:
                sizes = [v for k, v in rule.items() if k.startswith("block") or k in ("rows", "tile", "chunk", "warps")]
                assert all(size & (size - 1) == 0 for size in sizes)


def broken(change: Any) -> dict[str, Any]:
    table = copy.deepcopy(tables()["default"])
    change(table)
    return table


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t["kernels"].pop("matvec"), "kernels must be exactly"),
        (lambda t: t["kernels"]["matvec"].clear(), "the last rule of matvec must have no bounds"),
        (lambda t: t["kernels"]["matvec"][-1].update(max_n=4), "the last rule of matvec must have no bounds"),
        (lambda t: t["kernels"]["matmul"][0].pop("warps"), "rule 0 of matmul gives"),
        (lambda t: t["kernels"]["sampling"][0].update(chunk=0), "rule 0 of sampling: chunk is 0"),
        (lambda t: t["kernels"]["sampling"][0].update(chunk="4"), "chunk is '4'"),
        (lambda t: t.pop("limits"), "limits must be integers"),
    ],
)
def test_a_broken_table_names_the_entry(change: Any, told: str) -> None:
    with pytest.raises(TuningTableError, match=r"^mine: ") as raised:
        check_table("mine", broken(change))
    assert told in str(raised.value)
