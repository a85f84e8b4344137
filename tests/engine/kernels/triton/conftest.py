"""The device that the kernels run on: a GPU where there is one, else host memory, interpreted."""

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("triton")


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter's dot is numpy's product, whose sums in float32 depend on how many rows there are on some
    processors; a GPU's do not. Summed in float64 they are the same however they are cut."""
    matmul = np.matmul

    def in_float64(*operands: Any, dtype: Any = None, **options: Any) -> Any:
        if dtype != np.float32:
            return matmul(*operands, dtype=dtype, **options)
        return matmul(*operands, dtype=np.float64, **options).astype(np.float32)

    monkeypatch.setattr(np, "matmul", in_float64)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)
