"""Every activation against the one of the same name in `transformers`."""

import pytest
import torch
from transformers.activations import ACT2FN

from lepton_engine.layers.activation import ACTIVATIONS

LEARNED = {"prelu", "xielu"}  # they have parameters of their own


def test_all_without_parameters_are_there() -> None:
    assert set(ACTIVATIONS) == set(ACT2FN) - LEARNED


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_same_values(name: str) -> None:
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([0.0, 1e-6, -1e-6, 30.0, -30.0])])
    before = x.clone()
    torch.testing.assert_close(ACTIVATIONS[name](x), ACT2FN[name](x.clone()), atol=2e-6, rtol=1e-5)
    assert torch.equal(x, before)
