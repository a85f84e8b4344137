"""2:4 weights on the chip's sparse kernels; beside the Triton kernels, since `make gpu` runs this folder."""

import pytest
import torch

from lepton_engine.kernels.sparse import sparsify
from lepton_engine.offline.prune import Sparsity, prune_weight

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [1, 5, 64, 200])
def test_products_of_a_device(rows: int, dtype: torch.dtype, device: torch.device) -> None:
    weight = prune_weight(torch.randn(256, 512).to(dtype), Sparsity(None)).to(device)
    made = sparsify(weight)
    assert made is not None
    x = torch.randn(rows, 512, device=device, dtype=dtype)
    torch.testing.assert_close(made.linear(x, None), x @ weight.t(), rtol=2e-2, atol=2e-1)
