"""What every decoder family is to the runner and to the loader."""

import torch
from torch import nn

from lepton_engine.config import LayerKV
from lepton_engine.kernels.cpu.panels import PanelWeight
from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.kernels.sparse import SparseWeight
from lepton_engine.layers.attention import PagedAttention
from lepton_engine.layers.batch import BatchContext
from lepton_engine.layers.linear import Linear, WeightSlot
from lepton_engine.layers.vocabulary import Vocabulary


class CausalLM(nn.Module):
    """A decoder that predicts the next token.

    Attributes:
        vocab_size: tokens that it knows. max_position: tokens of the longest sequence that its tables hold; at first
            the context that the checkpoint names.
        vocabulary: embedding and output layer.
    """

    vocab_size: int
    max_position: int
    vocabulary: Vocabulary

    def attentions(self) -> list[PagedAttention]:
        """The attention layers, first to last."""
        return [module for module in self.modules() if isinstance(module, PagedAttention)]

    @property
    def kv_layers(self) -> list[LayerKV]:
        """What each attention layer keeps in the KV cache."""
        return [attention.spec for attention in self.attentions()]

    def bind_kv_cache(self, caches: list[tuple[torch.Tensor, ...]], groups: list[int]) -> None:
        """Give each attention layer its keys and values (and their scales) and its index into `BatchContext.groups`."""
        for attention, cache, group in zip(self.attentions(), caches, groups, strict=True):
            attention.bind(cache, group)

    def extend(self, max_position: int) -> None:
        """Hold sequences longer than the context that the checkpoint names, as the reference computes them.

        Raises:
            UnsupportedModelError: what the model does there is not defined, or depends on more than the sequence.
        """
        raise NotImplementedError

    def weight_slots(self) -> dict[str, WeightSlot]:
        """Where each tensor of a checkpoint goes, by its name there."""
        raise NotImplementedError

    def ignores(self, name: str) -> bool:
        """Whether a checkpoint may hold a tensor of this name that the model has no use for."""
        raise NotImplementedError

    def sparsify(self) -> None:
        """Let the device skip the zeros of weights that are pruned 2:4, where it can."""
        for module in self.modules():
            if isinstance(module, Linear):
                module.sparsify()

    def pack(self) -> None:
        """Bring the weights into the form that the machine's kernels are fastest with; they can't be filled again."""
        for module in self.modules():
            if isinstance(module, (Linear, Vocabulary)):
                module.pack()

    def sizes(self) -> tuple[int, int]:
        """Parameters in all, and the bytes that they take."""
        tensors = {tensor.data_ptr(): (tensor.numel(), tensor.nbytes) for tensor in self.parameters()}
        for module in self.modules():
            for value in vars(module).values():
                if isinstance(value, PanelWeight):
                    tensors[value.tensors[0].data_ptr()] = (value.numel(), value.nbytes)
                elif isinstance(value, QuantizedWeight):
                    tensors[value.data.data_ptr()] = (value.out_features * value.in_features, value.nbytes)
                elif isinstance(value, SparseWeight):
                    tensors[id(value)] = (value.out_features * value.in_features, value.nbytes)
        return sum(count for count, _ in tensors.values()), sum(size for _, size in tensors.values())

    def build_tables(self, device: torch.device) -> None:
        """Compute what is derived from the configuration rather than stored."""

    def forward(self, input_ids: torch.Tensor, batch: BatchContext) -> torch.Tensor:
        """int64 [num_tokens] -> hidden states [num_tokens, hidden_size]."""
        raise NotImplementedError

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[rows, hidden_size] -> float32 [rows, vocab_size]."""
        raise NotImplementedError
