"""Decoding one request: which share of the memory bandwidth the step reads its weights and keys with."""

import argparse
import statistics
from itertools import pairwise

import torch

from benchmarks.gpu.core import make_core, run
from benchmarks.gpu.limits import read_bandwidth
from benchmarks.gpu.models import SHAPES, random_model, step_bytes
from benchmarks.gpu.rows import Row

PART = "decode"
PROMPT = 128
TARGETS = {
    ("8B", None): 0.85,
    ("8B", "int8"): 0.75,
    ("8B", "fp8"): 0.75,
    ("8B", "int4"): 0.60,
    ("1B", None): 0.70,
}


def measure(shape: str, scheme: str | None, device: torch.device, outputs: int, bandwidth: float) -> list[Row]:
    """Tokens per second of one request, and the share of the bandwidth."""
    model = random_model(shape, scheme, device)
    core = make_core(model, device, max_model_len=2048, max_num_seqs=8, max_num_batched_tokens=512, kv_memory=2 << 30)
    prompt = list(range(2, PROMPT + 2))
    run(core, [prompt], [16])
    arrivals = run(core, [prompt], [outputs]).arrivals
    step = statistics.median(b - a for a, b in pairwise(arrivals[8:]))
    size = SHAPES[shape]
    head_dim = size["hidden_size"] // size["num_attention_heads"]
    per_token = 2 * 2 * head_dim * size["num_key_value_heads"] * size["num_hidden_layers"]
    read = step_bytes(model) + per_token * (PROMPT + outputs // 2)
    weights = f"{shape} {scheme or 'bf16'}"
    share = read / step / bandwidth
    note = "stretch" if scheme == "int4" or shape == "1B" else ""
    return [
        Row(PART, "one request, 128 in", weights, 1 / step, "tok/s"),
        Row(
            PART,
            "one request, share of read bandwidth",
            weights,
            share,
            "",
            TARGETS.get((shape, scheme)),
            note=f"{read / 1e9:.2f} GB a step, {bandwidth / 1e12:.2f} TB/s measured {note}".rstrip(),
        ),
    ]


def main(arguments: argparse.Namespace, device: torch.device) -> list[Row]:
    """See `benchmarks.gpu.__main__`."""
    bandwidth = read_bandwidth()
    rows = [Row(PART, "read bandwidth", "", bandwidth / 1e12, "TB/s")]
    shapes = ("tiny",) if arguments.quick else ("8B", "1B")
    for shape in shapes:
        for scheme in (None, "int8", "fp8", "int4"):
            rows += measure(shape, scheme, device, 32 if arguments.quick else 256, bandwidth)
            torch.cuda.empty_cache()
    return rows
