"""Prompts of 2,048 tokens: which share of the device's bf16 product rate their computation reaches."""

import argparse

import torch

from benchmarks.gpu.core import make_core, run
from benchmarks.gpu.limits import gemm_rate
from benchmarks.gpu.models import SHAPES, linear_parameters, random_model
from benchmarks.gpu.rows import Row

PART = "prefill"
TARGET = 0.60


def main(arguments: argparse.Namespace, device: torch.device) -> list[Row]:
    """See `benchmarks.gpu.__main__`."""
    shape = "tiny" if arguments.quick else "8B"
    length, count = (256, 2) if arguments.quick else (2048, 16)
    rate = gemm_rate()
    model = random_model(shape, None, device)
    core = make_core(model, device, max_model_len=4096, max_num_seqs=16, max_num_batched_tokens=8192, kv_memory=6 << 30)
    prompts = [[(7 * i + j) % 500 + 2 for j in range(length)] for i in range(count)]
    run(core, prompts[:4], [1] * len(prompts[:4]))
    seconds = min(run(core, prompts, [1] * count).seconds for _ in range(3))
    size = SHAPES[shape]
    products = 2 * linear_parameters(shape)
    # Causal attention: two products of head_dim for each head and each key that a token sees, half of them on average.
    attention = 4 * size["hidden_size"] * size["num_hidden_layers"] * length / 2
    tokens = length * count
    share = tokens * (products + attention) / seconds / rate
    return [
        Row(PART, "bf16 product rate", "", rate / 1e12, "TFLOP/s"),
        Row(PART, f"{count} prompts of {length}", f"{shape} bf16", tokens / seconds, "tok/s"),
        Row(PART, "share of the product rate", f"{shape} bf16", share, "", TARGET),
    ]
