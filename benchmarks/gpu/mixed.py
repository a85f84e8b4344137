"""256 requests of mixed lengths at once, beside the continuous batching of `transformers` on the same prompts."""

import argparse
import importlib.util
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.gpu.core import make_core, run
from benchmarks.gpu.models import config_of, random_model
from benchmarks.gpu.rows import Row

PART = "mixed"
TARGET = 3.0


def requests(count: int, vocabulary: int, longest: int) -> tuple[list[list[int]], list[int]]:
    """Prompts of 16 to `longest` tokens and outputs of 16 to half of that."""
    rng = random.Random(0)
    prompts = [[rng.randrange(2, vocabulary) for _ in range(rng.randint(16, longest))] for _ in range(count)]
    return prompts, [rng.randint(16, longest // 2) for _ in range(count)]


class Peer:
    """`transformers` with its continuous batching."""

    def __init__(self, shape: str, device: torch.device) -> None:
        import transformers

        config = transformers.LlamaConfig(
            **{key: value for key, value in config_of(shape).items() if key not in ("architectures", "torch_dtype")}
        )
        config._attn_implementation = "sdpa"
        self.version = transformers.__version__
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            with device:
                build: Any = transformers.LlamaForCausalLM
                self._model = build(config)
        finally:
            torch.set_default_dtype(default)
        self._model.eval()
        settings: Any = transformers.GenerationConfig
        self._settings = settings(do_sample=False, eos_token_id=-1, pad_token_id=0)

    def run(self, prompts: Sequence[list[int]], outputs: Sequence[int]) -> float:
        """Seconds for all requests together, the manager's start and its warm-up left out."""
        manager = self._model.init_continuous_batching(generation_config=self._settings)
        manager.start()
        try:
            self._collect(manager, prompts[:2], [4, 4])
            began = time.perf_counter()
            self._collect(manager, prompts, outputs)
            return time.perf_counter() - began
        finally:
            manager.stop(block=True)

    @staticmethod
    def _collect(manager: Any, prompts: Sequence[list[int]], outputs: Sequence[int]) -> None:
        for prompt, count in zip(prompts, outputs, strict=True):
            manager.add_request(prompt, max_new_tokens=count)
        done = generated = 0
        while done < len(prompts):
            result = manager.get_result(timeout=1)
            if result is not None and result.is_finished():
                done += 1
                generated += len(result.generated_tokens)
            elif result is None and not manager.is_running():
                raise RuntimeError("continuous batching of transformers ended before its requests")
        if generated != sum(outputs):
            raise RuntimeError(f"transformers gave {generated} tokens, {sum(outputs)} were asked for")


def main(arguments: argparse.Namespace, device: torch.device) -> list[Row]:
    """See `benchmarks.gpu.__main__`; runs alternate."""
    shape, count, longest, rounds = ("tiny", 8, 64, 1) if arguments.quick else ("8B", 256, 512, 3)
    prompts, outputs = requests(count, config_of(shape)["vocab_size"], longest)
    model = random_model(shape, None, device)
    core = make_core(
        model, device, max_model_len=2048, max_num_seqs=count, max_num_batched_tokens=2048, kv_memory=16 << 30
    )
    run(core, prompts[:4], [4] * 4)
    work = f"{count} requests, 16-{longest} in, 16-{longest // 2} out"
    if importlib.util.find_spec("transformers") is None:
        seconds = statistics.median(run(core, prompts, outputs).seconds for _ in range(rounds))
        note = "INCOMPLETE: transformers is not installed, nothing to compare with"
        return [Row(PART, work, f"{shape} bf16", sum(outputs) / seconds, "tok/s", note=note)]
    peer = Peer(shape, device)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(run(core, prompts, outputs).seconds)
        theirs.append(peer.run(prompts, outputs))
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    return [
        Row(PART, work, f"{shape} bf16", sum(outputs) / statistics.median(ours), "tok/s"),
        Row(PART, f"transformers {peer.version}", f"{shape} bf16", sum(outputs) / statistics.median(theirs), "tok/s"),
        Row(PART, "ratio to its continuous batching", f"{shape} bf16", ratio, "x", TARGET),
    ]
