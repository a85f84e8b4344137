"""The decoder that the Llama line shares: RMSNorm, rotary positions, grouped heads, gated MLP."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from lepton_engine.config import LayerKV
from lepton_engine.errors import UnsupportedModelError
from lepton_engine.kernels import dispatch
from lepton_engine.kernels.cpu.panels import PanelWeight
from lepton_engine.kernels.cpu.plan import ForwardPlan
from lepton_engine.layers.activation import ACTIVATIONS
from lepton_engine.layers.attention import PagedAttention
from lepton_engine.layers.batch import BatchContext
from lepton_engine.layers.linear import Linear, Parallel, WeightSlot
from lepton_engine.layers.norm import RMSNorm
from lepton_engine.layers.rotary import RopeConfig, Rotary
from lepton_engine.layers.vocabulary import Vocabulary
from lepton_engine.models.base import CausalLM
from lepton_engine.models.decoder_plan import plan_decoder


@dataclass(frozen=True)
class DecoderConfig:
    """The shape of a decoder of the Llama line.

    Attributes:
        max_position: tokens of the longest sequence. windows: per layer, tokens that it sees; None for all.
        qk_norm: whether queries and keys are normed per head before the rotation.
        tied: whether the output layer is the embedding.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position: int
    windows: tuple[int | None, ...]
    rope: RopeConfig
    norm_eps: float
    activation: str = "silu"
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    tied: bool = False

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise UnsupportedModelError(
                f"config.json: num_attention_heads is {self.num_heads}, "
                f"which is no multiple of num_key_value_heads, {self.num_kv_heads}"
            )
        if self.activation not in ACTIVATIONS:
            raise UnsupportedModelError(
                f"config.json: hidden_act is {self.activation!r}, known are {', '.join(sorted(ACTIVATIONS))}"
            )


class Attention(nn.Module):
    """Projections, rotation and paged attention of one layer."""

    def __init__(self, config: DecoderConfig, rotary: Rotary, window: int | None) -> None:
        super().__init__()
        self.heads = (config.num_heads, config.num_kv_heads, config.head_dim)
        sizes = [config.num_heads * config.head_dim, *[config.num_kv_heads * config.head_dim] * 2]
        self.qkv = Linear(config.hidden_size, sizes, bias=config.qkv_bias, parallel=Parallel.COLUMN)
        self.output = Linear(sizes[0], [config.hidden_size], bias=config.output_bias, parallel=Parallel.ROW)
        self.q_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else None
        self.rotary = rotary
        spec = LayerKV(config.num_kv_heads, config.head_dim, window)
        self.attention = PagedAttention(spec, config.head_dim**-0.5)

    def slots(self, name: str) -> dict[str, WeightSlot]:
        """Slots under the checkpoint's name of the module."""
        found = self.qkv.slots([f"{name}.{part}_proj" for part in "qkv"]) | self.output.slots([f"{name}.o_proj"])
        if self.q_norm is not None and self.k_norm is not None:
            found |= self.q_norm.slots(f"{name}.q_norm") | self.k_norm.slots(f"{name}.k_norm")
        return found

    def forward(self, x: torch.Tensor, batch: BatchContext) -> torch.Tensor:
        """[T, hidden_size] -> [T, hidden_size]."""
        heads, kv_heads, dim = self.heads
        qkv = self.qkv(x).view(-1, heads + 2 * kv_heads, dim)
        q, k, v = qkv.split((heads, kv_heads, kv_heads), dim=1)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        self.rotary(q, k, batch.positions)
        return self.output(self.attention(q, k, v, batch))


class GatedMLP(nn.Module):
    """down(act(gate(x)) * up(x))."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        size = config.intermediate_size
        self.gate_up = Linear(config.hidden_size, [size, size], bias=config.mlp_bias, parallel=Parallel.COLUMN)
        self.down = Linear(size, [config.hidden_size], bias=config.mlp_bias, parallel=Parallel.ROW)
        self._silu = config.activation in ("silu", "swish")
        self._activation = ACTIVATIONS[config.activation]

    def slots(self, name: str) -> dict[str, WeightSlot]:
        """Slots under the checkpoint's name of the module."""
        return self.gate_up.slots([f"{name}.gate_proj", f"{name}.up_proj"]) | self.down.slots([f"{name}.down_proj"])

    def pack(self) -> None:
        """See `CausalLM.pack`; a SiLU gate becomes part of the product."""
        self.gate_up.pack(gated=self._silu)

    @property
    def gated(self) -> bool:
        """Whether the gate is part of the first product."""
        return isinstance(self.gate_up.weight, PanelWeight) and self.gate_up.weight.gated

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[T, hidden_size] -> [T, hidden_size]."""
        gate_up = self.gate_up(x)
        if self.gated:
            return self.down(gate_up)
        if self._silu:
            return self.down(dispatch.silu_mul(gate_up))
        gate, up = gate_up.chunk(2, dim=-1)
        return self.down(self._activation(gate) * up)


class DecoderLayer(nn.Module):
    """One layer; the residual stream is passed beside the layer's input, so that adding and norming are one kernel."""

    def __init__(self, config: DecoderConfig, rotary: Rotary, window: int | None) -> None:
        super().__init__()
        self.input_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.attention = Attention(config, rotary, window)
        self.mlp_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = GatedMLP(config)

    def slots(self, name: str) -> dict[str, WeightSlot]:
        """Slots under the checkpoint's name of the module."""
        return (
            self.input_norm.slots(f"{name}.input_layernorm")
            | self.attention.slots(f"{name}.self_attn")
            | self.mlp_norm.slots(f"{name}.post_attention_layernorm")
            | self.mlp.slots(f"{name}.mlp")
        )

    def forward(
        self, x: torch.Tensor, residual: torch.Tensor | None, batch: BatchContext
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both [T, hidden_size]; the first layer has no residual yet."""
        if residual is None:
            normed, residual = self.input_norm(x), x
        else:
            normed, residual = self.input_norm.add(x, residual)
        normed, residual = self.mlp_norm.add(self.attention(normed, batch), residual)
        return self.mlp(normed), residual


class DecoderForCausalLM(CausalLM):
    """Embedding, layers, final norm and output layer.

    Attributes:
        plan: what runs in place of the modules, once the KV cache is bound; None where they run themselves.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.vocab_size = config.vocab_size
        self.max_position = config.max_position
        self.vocabulary = Vocabulary(config.vocab_size, config.hidden_size, tied=config.tied)
        self.rotary = Rotary(config.rope, config.max_position)
        layers = [DecoderLayer(config, self.rotary, window) for window in config.windows]
        self.layers: Sequence[DecoderLayer] = nn.ModuleList(layers)  # type: ignore[assignment]
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.plan: ForwardPlan | None = None

    def weight_slots(self) -> dict[str, WeightSlot]:
        """See `CausalLM.weight_slots`."""
        found = self.vocabulary.slots("model.embed_tokens.weight", "lm_head.weight") | self.norm.slots("model.norm")
        for index, layer in enumerate(self.layers):
            found |= layer.slots(f"model.layers.{index}")
        return found

    def ignores(self, name: str) -> bool:
        """See `CausalLM.ignores`: old checkpoints store the rotary frequencies, some the tied output layer."""
        return name.endswith("rotary_emb.inv_freq") or (self.vocabulary.tied and name == "lm_head.weight")

    def extend(self, max_position: int) -> None:
        """See `CausalLM.extend`."""
        self.rotary.extend(max_position)
        self.max_position = max_position

    def build_tables(self, device: torch.device) -> None:
        """See `CausalLM.build_tables`."""
        self.rotary.build(device)

    def pack(self) -> None:
        """See `CausalLM.pack`."""
        for layer in self.layers:
            layer.mlp.pack()
        super().pack()

    def bind_kv_cache(self, caches: list[tuple[torch.Tensor, ...]], groups: list[int]) -> None:
        """See `CausalLM.bind_kv_cache`."""
        super().bind_kv_cache(caches, groups)
        self.plan = plan_decoder(self)

    def forward(self, input_ids: torch.Tensor, batch: BatchContext) -> torch.Tensor:
        """See `CausalLM.forward`."""
        if self.plan is not None:
            return self.plan.run(input_ids, batch)
        x, residual = self.vocabulary.embed(input_ids), None
        for layer in self.layers:
            x, residual = layer(x, residual, batch)
        if residual is None:
            return self.norm(x)
        normed, _ = self.norm.add(x, residual)
        return normed

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """See `CausalLM.logits`."""
        return self.vocabulary.logits(hidden)
