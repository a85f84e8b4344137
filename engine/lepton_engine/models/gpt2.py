"""GPT-2: learned positions, layer norms, full heads, transposed weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from lepton_engine.config import LayerKV
from lepton_engine.errors import UnsupportedModelError
from lepton_engine.layers.activation import ACTIVATIONS
from lepton_engine.layers.attention import PagedAttention
from lepton_engine.layers.batch import BatchContext
from lepton_engine.layers.linear import Linear, Parallel, WeightSlot
from lepton_engine.layers.norm import LayerNorm
from lepton_engine.layers.vocabulary import Vocabulary
from lepton_engine.models.base import CausalLM
from lepton_engine.weights.fields import Fields


@dataclass(frozen=True)
class GPT2Config:
    """The shape of a GPT-2.

    Attributes:
        scale: factor on the scores of each layer, first to last.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    max_position: int
    norm_eps: float
    activation: str
    scale: tuple[float, ...]
    tied: bool


class Block(nn.Module):
    """Attention and MLP, each behind a layer norm."""

    def __init__(self, config: GPT2Config, scale: float) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self._num_heads = config.num_heads
        self.ln_1 = LayerNorm(hidden, config.norm_eps)
        # The checkpoint stores one weight for queries, keys and values; ranks would have to divide it in three.
        self.qkv = Linear(hidden, [3 * hidden], bias=True, transposed=True)
        self.attention = PagedAttention(LayerKV(config.num_heads, hidden // config.num_heads), scale)
        self.attention_output = Linear(hidden, [hidden], bias=True, parallel=Parallel.ROW, transposed=True)
        self.ln_2 = LayerNorm(hidden, config.norm_eps)
        self.mlp_input = Linear(hidden, [inner], bias=True, parallel=Parallel.COLUMN, transposed=True)
        self.mlp_output = Linear(inner, [hidden], bias=True, parallel=Parallel.ROW, transposed=True)
        self._activation = ACTIVATIONS[config.activation]

    def slots(self, name: str) -> dict[str, WeightSlot]:
        """Slots under the checkpoint's name of the module."""
        return (
            self.ln_1.slots(f"{name}.ln_1")
            | self.qkv.slots([f"{name}.attn.c_attn"])
            | self.attention_output.slots([f"{name}.attn.c_proj"])
            | self.ln_2.slots(f"{name}.ln_2")
            | self.mlp_input.slots([f"{name}.mlp.c_fc"])
            | self.mlp_output.slots([f"{name}.mlp.c_proj"])
        )

    def forward(self, x: torch.Tensor, batch: BatchContext) -> torch.Tensor:
        """[T, hidden_size] -> [T, hidden_size]."""
        qkv = self.qkv(self.ln_1(x))
        q, k, v = (part.view(len(x), self._num_heads, -1) for part in qkv.chunk(3, dim=-1))
        x = x + self.attention_output(self.attention(q, k, v, batch))
        return x + self.mlp_output(self._activation(self.mlp_input(self.ln_2(x))))


class GPT2ForCausalLM(CausalLM):
    """Embeddings of tokens and positions, blocks, final norm and output layer."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.vocab_size = config.vocab_size
        self.max_position = config.max_position
        self.vocabulary = Vocabulary(config.vocab_size, config.hidden_size, tied=config.tied)
        self.positions = nn.Parameter(torch.empty(config.max_position, config.hidden_size), requires_grad=False)
        blocks = [Block(config, scale) for scale in config.scale]
        self.blocks: Sequence[Block] = nn.ModuleList(blocks)  # type: ignore[assignment]
        self.norm = LayerNorm(config.hidden_size, config.norm_eps)

    def extend(self, max_position: int) -> None:
        """See `CausalLM.extend`: positions are learned, there are no more of them."""
        raise UnsupportedModelError(f"n_positions: the model has embeddings for {self.max_position} positions")

    def weight_slots(self) -> dict[str, WeightSlot]:
        """See `CausalLM.weight_slots`."""
        found = self.vocabulary.slots("transformer.wte.weight", "lm_head.weight")
        found["transformer.wpe.weight"] = WeightSlot(self.positions)
        for index, block in enumerate(self.blocks):
            found |= block.slots(f"transformer.h.{index}")
        found |= self.norm.slots("transformer.ln_f")
        return found

    def ignores(self, name: str) -> bool:
        """See `CausalLM.ignores`: old checkpoints store the causal mask, some the tied output layer."""
        return name.endswith((".attn.bias", ".attn.masked_bias")) or (self.vocabulary.tied and name == "lm_head.weight")

    def forward(self, input_ids: torch.Tensor, batch: BatchContext) -> torch.Tensor:
        """See `CausalLM.forward`."""
        x = self.vocabulary.embed(input_ids) + functional.embedding(batch.positions, self.positions)
        for block in self.blocks:
            x = block(x, batch)
        return self.norm(x)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """See `CausalLM.logits`."""
        return self.vocabulary.logits(hidden)


def build(fields: Fields) -> CausalLM:
    """A `GPT2LMHeadModel`."""
    hidden, num_heads = fields.integer("n_embd", 768), fields.integer("n_head", 12)
    if hidden % num_heads:
        raise UnsupportedModelError(f"config.json: n_embd is {hidden}, which is no multiple of n_head, {num_heads}")
    if fields.boolean("add_cross_attention", False):
        raise UnsupportedModelError("config.json: add_cross_attention is not supported")
    activation = fields.text("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        raise UnsupportedModelError(
            f"config.json: activation_function is {activation!r}, known are {', '.join(sorted(ACTIVATIONS))}"
        )
    scale = (hidden // num_heads) ** -0.5 if fields.boolean("scale_attn_weights", True) else 1.0
    by_layer = fields.boolean("scale_attn_by_inverse_layer_idx", False)
    num_layers = fields.integer("n_layer", 12)
    return GPT2ForCausalLM(
        GPT2Config(
            vocab_size=fields.integer("vocab_size", 50257),
            hidden_size=hidden,
            intermediate_size=fields.integer("n_inner", 4 * hidden),
            num_heads=num_heads,
            max_position=fields.integer("n_positions", fields.integer("n_ctx", 1024)),
            norm_eps=fields.number("layer_norm_epsilon", 1e-5),
            activation=activation,
            scale=tuple(scale / (index + 1) if by_layer else scale for index in range(num_layers)),
            tied=fields.boolean("tie_word_embeddings", True),
        )
    )
