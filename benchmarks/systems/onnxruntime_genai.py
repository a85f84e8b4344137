"""ONNX Runtime GenAI: one static batch padded on the left, over a checkpoint of its model builder.

Its batching engine is for CUDA alone, and on a CPU it computes in float32, with int8 or int4 weights in blocks of 32
that multiply int8 rows; so it stands beside int8 and int4 only. It shares no prefix.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.systems.environments import Peer
from benchmarks.works import Work

PEER = Peer(
    "ONNX Runtime GenAI",
    "onnxruntime_genai",
    ("onnxruntime-genai>=0.18,<0.19", "onnxruntime>=1.32,<2", "onnx<2", "onnx-ir<1", "transformers>=5,<6", "torch"),
    {"int8": "int8-b32", "int4": "int4-b32"},
)
PAD = 1  # Of the benchmarks' shapes; prompts have none.


def convert(source: str, target: str, weights: str) -> None:
    """See `Peer`: its own builder, a program beside modules that it imports by their bare names."""
    import subprocess
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as cache:
        program = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
        files = ["-i", source, "-o", target, "-c", cache]
        subprocess.run([*program, *files, "-p", weights.partition("-")[0], "-e", "cpu"], check=True)


class OnnxRuntime:
    """One model; a generator for every batch."""

    def __init__(self, folder: Path, threads: int) -> None:
        import numpy as np
        import onnxruntime_genai as api

        self._api, self._np = api, np
        config = api.Config(str(folder))
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
        self._model = api.Model(config)

    def run(self, work: Work) -> dict[str, float]:
        """See `System.run`."""
        longest, steps = max(map(len, work.prompts)), max(work.outputs)
        params = self._api.GeneratorParams(self._model)
        length = longest + steps
        params.set_search_options(
            batch_size=len(work.prompts), max_length=length, min_length=length, do_sample=False, top_k=1
        )
        padded = [[PAD] * (longest - len(prompt)) + list(prompt) for prompt in work.prompts]
        generator: Any = self._api.Generator(self._model, params)
        ids = self._np.array(padded, dtype=self._np.int32)
        generator.append_tokens(ids if len(padded) > 1 else ids[0])
        while not generator.is_done():
            generator.generate_next_token()
        made = {len(generator.get_sequence(row)) - longest for row in range(len(padded))}
        if made != {steps}:
            raise RuntimeError(f"{made} tokens came, {steps} were asked for")
        return {"steps": float(steps)}


def make(folder: str, threads: int) -> OnnxRuntime:
    """See `SystemProcess`."""
    return OnnxRuntime(Path(folder), threads)
