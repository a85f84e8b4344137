"""Tries tile sizes on the device and writes a table for its chip: `--part tune`, not among the parts of `make gpu`.

The winners of each case are printed and written to OUT/table-CHIP.json, which, once looked at, belongs into
`engine/lepton_engine/kernels/triton/tables/`.
"""

import argparse
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.gpu.limits import seconds
from benchmarks.gpu.rows import Row
from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.kernels.triton import matmul
from lepton_engine.kernels.triton.tuning import DEFAULT, check_table, tables

PART = "tune"
BUDGET = 540.0  # seconds; what is not tried by then keeps the default's sizes
SHAPES = ((2048, 2048), (6144, 4096), (4096, 14336), (28672, 4096))  # out, in
_BEYOND_CACHES = 256 << 20  # bytes of weights that a timing walks through

MATVEC = {"block_n": (4, 8, 16), "block_k": (512, 1024, 2048), "splits": (1,), "warps": (4, 8), "stages": (1,)}
MATMUL = {"block_n": (32, 64, 128), "block_k": (64, 128), "splits": (1, 4), "warps": (4, 8), "stages": (3, 4)}
BITS = {16: None, 8: "int8", 4: "int4"}


def candidates(space: dict[str, tuple[int, ...]], **fixed: int) -> Iterator[dict[str, int]]:
    """Every combination."""
    for values in itertools.product(*space.values()):
        yield {**fixed, **dict(zip(space, values, strict=True))}


@contextmanager
def tiles(chosen: dict[str, int]) -> Iterator[None]:
    """Makes products use these tile sizes."""
    names = vars(matmul)
    real = names["pick"]
    names["pick"] = lambda *_, **__: chosen
    try:
        yield
    finally:
        names["pick"] = real


def weights_of(bits: int, n: int, k: int, device: torch.device) -> list[torch.Tensor | QuantizedWeight]:
    """Several weights, so that together they fit no cache."""
    count = max(2, _BEYOND_CACHES * 8 // (n * k * bits))
    made: list[torch.Tensor | QuantizedWeight] = []
    for _ in range(count):
        if bits == 16:
            made.append(torch.randn(n, k, device=device, dtype=torch.bfloat16))
        elif bits == 8:
            data = torch.randint(-127, 128, (n, k), device=device, dtype=torch.int8)
            made.append(QuantizedWeight("int8", data, torch.rand(n, 1, device=device)))
        else:
            data = torch.randint(0, 256, (n, k // 2), device=device, dtype=torch.uint8)
            made.append(QuantizedWeight("int4", data, torch.rand(n, k // 128, device=device)))
    return made


def fastest(
    tried: Iterator[dict[str, int]], work: Callable[[], None], until: float
) -> tuple[dict[str, int], float] | None:
    """The sizes with the least time; None where none could be tried."""
    best: tuple[dict[str, int], float] | None = None
    for chosen in tried:
        if time.monotonic() > until:
            break
        try:
            with tiles(chosen):
                taken = seconds(work, repeats=5, warm_up=1)
        except Exception as error:  # Too much shared memory, or not compiled: not a candidate on this chip.
            print(f"{chosen}: {type(error).__name__}", flush=True)
            continue
        if best is None or taken < best[1]:
            best = chosen, taken
    return best


def merged(found: list[tuple[dict[str, int], dict[str, int]]], default: list[dict[str, int]]) -> list[dict[str, int]]:
    """Rules of a table: bounds and sizes of each case, smallest bounds first, then the default's rules."""
    ordered = sorted(found, key=lambda case: tuple(case[0].values()))
    return [*({**bounds, **sizes} for bounds, sizes in ordered), *default]


def main(arguments: argparse.Namespace, device: torch.device) -> list[Row]:
    """See `benchmarks.gpu.__main__`."""
    until = time.monotonic() + (60.0 if arguments.quick else BUDGET)
    shapes = SHAPES[:1] if arguments.quick else SHAPES
    found: dict[str, list[tuple[dict[str, int], dict[str, int]]]] = {"matvec": [], "matmul": []}
    rows: list[Row] = []
    for bits, (n, k) in itertools.product((4, 8, 16), shapes):
        weights = weights_of(bits, n, k, device)
        for count in (1, 16, 64) if bits < 16 else (1,):
            x = torch.randn(count, k, device=device, dtype=torch.bfloat16)

            def work(x: torch.Tensor = x, weights: list[torch.Tensor | QuantizedWeight] = weights) -> None:
                for weight in weights:
                    matmul.small_product(x, weight, None)

            tried = candidates(MATVEC) if count == 1 else candidates(MATMUL, block_m=count)
            best = fastest(tried, work, until)
            if best is None:
                continue
            name = "matvec" if count == 1 else "matmul"
            bounds = {"max_bits": bits, "max_n": n} if count == 1 else {"max_bits": bits, "max_rows": count, "max_n": n}
            found[name].append((bounds, best[0]))
            rate = n * k * bits / 8 * len(weights) / best[1]
            rows.append(Row(PART, f"{n}x{k}, {count} rows: {best[0]}", f"{bits} bits", rate / 1e12, "TB/s"))
        del weights
    default = tables()[DEFAULT]["kernels"]
    chip = torch.cuda.get_device_name(device)
    table: dict[str, Any] = {
        "chips": [chip],
        "capability": list(torch.cuda.get_device_capability(device)),
        "note": f"Measured on {chip} by benchmarks.gpu.tune; kernels that it does not try have the default's sizes.",
        "limits": tables()[DEFAULT]["limits"],
        "kernels": {**default, **{name: merged(cases, default[name]) for name, cases in found.items()}},
    }
    check_table(chip, table)
    name = re.sub(r"[^A-Za-z0-9]+", "-", chip)
    (arguments.out / f"table-{name}.json").write_text(json.dumps(table, indent=1) + "\n")
    return rows
