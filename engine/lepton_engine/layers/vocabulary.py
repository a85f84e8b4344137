"""The two ends of a decoder: the embedding of tokens, and the output layer that scores them."""

import torch
from torch import nn

from lepton_engine.kernels import dispatch
from lepton_engine.kernels.cpu.panels import PanelWeight
from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.layers.linear import WeightSlot


class Vocabulary(nn.Module):
    """Embedding and output layer, [size, hidden_size] each; one weight where they are tied.

    Attributes:
        embedding: the embedding's weight. head: the output layer's; None where it is the embedding's.
        tied: whether a checkpoint has one weight for both.
    """

    def __init__(self, size: int, hidden_size: int, *, tied: bool) -> None:
        super().__init__()
        self.adopted = "head"
        self.tied = tied
        self.embedding: torch.Tensor | PanelWeight = _weight(size, hidden_size)
        self.head: torch.Tensor | PanelWeight | QuantizedWeight | None = None if tied else _weight(size, hidden_size)

    def slots(self, embedding: str, head: str) -> dict[str, WeightSlot]:
        """Slots of the weights, under the checkpoint's names of them."""
        found = {}
        for name, weight in ((embedding, self.embedding), (head, self.head)):
            if weight is None:
                continue
            if not isinstance(weight, torch.Tensor):
                raise RuntimeError(f"{name} has been replaced already")
            found[name] = WeightSlot(weight, layer=self if name == head else None)
        return found

    def adopt(self, weight: QuantizedWeight | torch.Tensor) -> None:
        """See `Quantizable.adopt`: for the output layer, which is then one of its own."""
        del self.head
        self.head = nn.Parameter(weight, requires_grad=False) if isinstance(weight, torch.Tensor) else weight

    def pack(self) -> None:
        """See `Linear.pack`: of the output layer. An embedding that isn't the output layer is read as it lies."""
        name = "embedding" if self.head is None else "head"
        weight = getattr(self, name)
        packed = None if isinstance(weight, PanelWeight) else dispatch.pack(weight)
        if packed is not None:
            delattr(self, name)
            setattr(self, name, packed)

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """int64 [T] -> [T, hidden_size]."""
        return dispatch.embedding(input_ids, self.embedding)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[T, hidden_size] -> float32 [T, size]."""
        weight = self.embedding if self.head is None else self.head
        return dispatch.linear(hidden, weight, None, torch.float32)


def _weight(size: int, hidden_size: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(size, hidden_size), requires_grad=False)
