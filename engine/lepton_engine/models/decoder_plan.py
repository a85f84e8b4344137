"""The Llama line's decoder as a plan of native steps; `models/decoder.py` is its reference twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lepton_engine.kernels.cpu.cache import is_native
from lepton_engine.kernels.cpu.panels import PanelWeight
from lepton_engine.kernels.cpu.plan import OUTPUT, ForwardPlan, PlanHeads
from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.kernels.sparse import SparseWeight

if TYPE_CHECKING:
    from lepton_engine.models.decoder import DecoderForCausalLM, DecoderLayer

# The buffers: the residual stream, the input of a projection, queries with keys and values, what attention and the
# gate make of them.
_RESIDUAL, _NORMED, _QKV, _ATTENDED, _GATED = range(5)


def plan_decoder(model: DecoderForCausalLM) -> ForwardPlan | None:
    """The plan of a packed model whose KV cache is bound; None where one of its parts has no native step."""
    if not all(_has_steps(layer) for layer in model.layers):
        return None
    heads, kv_heads, dim = model.layers[0].attention.heads
    hidden = model.norm.weight.shape[0]
    widths = [hidden, hidden, (heads + 2 * kv_heads) * dim, heads * dim, _outputs(model.layers[0].mlp.gate_up.weight)]
    plan = ForwardPlan(model.norm.weight.dtype, widths, hidden)
    plan.embed(_RESIDUAL, model.vocabulary.embedding)
    for layer in model.layers:
        _add_layer(plan, layer)
    plan.rms_norm(_RESIDUAL, OUTPUT, model.norm.weight, model.norm.eps)
    return plan


def _has_steps(layer: DecoderLayer) -> bool:
    attention = layer.attention
    linears = (attention.qkv, attention.output, layer.mlp.gate_up, layer.mlp.down)
    if not layer.mlp.gated or not all(isinstance(linear.weight, PanelWeight) for linear in linears):
        return False
    dtype, dim = layer.input_norm.weight.dtype, attention.heads[2]
    return dim % 2 == 0 and is_native(dtype, *attention.attention.cache, attention.attention.scales)


def _outputs(weight: torch.Tensor | PanelWeight | QuantizedWeight | SparseWeight) -> int:
    return _packed(weight).outputs


def _packed(weight: torch.Tensor | PanelWeight | QuantizedWeight | SparseWeight) -> PanelWeight:
    if not isinstance(weight, PanelWeight):
        raise TypeError("the weight is not packed")
    return weight


def _add_layer(plan: ForwardPlan, layer: DecoderLayer) -> None:
    attention, mlp = layer.attention, layer.mlp
    num_heads, kv_heads, _ = attention.heads
    paged = attention.attention
    heads = PlanHeads(num_heads, *paged.cache, paged.scales, paged.group, paged.spec.window)
    plan.rms_norm(_RESIDUAL, _NORMED, layer.input_norm.weight, layer.input_norm.eps)
    plan.linear(_NORMED, _QKV, _packed(attention.qkv.weight), attention.qkv.bias)
    if attention.q_norm is not None and attention.k_norm is not None:
        q_norm, k_norm = attention.q_norm, attention.k_norm
        plan.head_norm(_QKV, q_norm.weight, range(num_heads), q_norm.eps)
        plan.head_norm(_QKV, k_norm.weight, range(num_heads, num_heads + kv_heads), k_norm.eps)
    plan.rotary_store(_QKV, heads, attention.rotary.table)
    plan.attention(_QKV, _ATTENDED, heads, paged.scale)
    plan.linear(_ATTENDED, _RESIDUAL, _packed(attention.output.weight), attention.output.bias, residual=_RESIDUAL)
    plan.rms_norm(_RESIDUAL, _NORMED, layer.mlp_norm.weight, layer.mlp_norm.eps)
    plan.linear(_NORMED, _GATED, _packed(mlp.gate_up.weight), mlp.gate_up.bias)
    plan.linear(_GATED, _RESIDUAL, _packed(mlp.down.weight), mlp.down.bias, residual=_RESIDUAL)
