"""llama.cpp through llama-cpp-python's low-level API: continuous batching of our own over `llama_decode`.

One context holds all sequences, in one KV cache (unified: attention goes over the cells of all, masked) or in one for
each (streams). Every step carries one token of each decoding request and fills
up with prompt tokens. Logits are taken where a token is due only, and the largest is chosen in numpy.

llama.cpp's own server shares no prefix among requests that arrive together. `sharing` says what is done about one:
"none"; "kept" runs one request after the other and leaves the common prefix in the cache for the next, as one slot of
the server does; "by hand" computes it once and shares its cells with `llama_memory_seq_cp`, for a caller who knows it.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.systems import gguf_file
from benchmarks.systems.environments import Peer
from benchmarks.works import SHARED_LEAST, Work, common_prefix

PEER = Peer(
    "llama.cpp",
    "llama_cpp",
    ("llama-cpp-python>=0.3.36,<0.4", "gguf>=0.17,<1"),
    {"bf16": "BF16", "int8": "Q8_0", "int4": "Q4_0"},
    {
        "CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DLLAMA_CURL=OFF -DLLAMA_BUILD_TOOLS=OFF"
        " -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF",
        "CMAKE_BUILD_PARALLEL_LEVEL": "2",
    },
)
BATCH, UBATCH = 2048, 512  # tokens of a llama_decode call and of a pass over the weights; llama.cpp's defaults
SEQUENCES, CONTEXT, STREAM_CONTEXT = 32, 16384, 768  # cells: of all sequences in one cache, of each in its own


def convert(source: str, target: str, weights: str) -> None:
    """See `Peer`: model.gguf in bfloat16, and quantised from it by llama.cpp itself with its defaults."""
    import llama_cpp as api

    file = Path(target) / "model.gguf"
    if weights == "BF16":
        gguf_file.write(Path(source), file)
        return
    plain = Path(target) / "bf16.gguf"
    gguf_file.write(Path(source), plain)
    params = api.llama_model_quantize_default_params()
    params.ftype = {"Q8_0": api.LLAMA_FTYPE_MOSTLY_Q8_0, "Q4_0": api.LLAMA_FTYPE_MOSTLY_Q4_0}[weights]
    params.nthread = len(os.sched_getaffinity(0))
    if api.llama_model_quantize(os.fsencode(plain), os.fsencode(file), params):
        raise RuntimeError(f"llama_model_quantize to {weights} failed")
    plain.unlink()


@dataclass
class Sequence:
    """A request under way."""

    slot: int
    prompt: tuple[int, ...]
    due: int
    computed: int = 0
    made: list[int] = field(default_factory=list)


class LlamaCpp:
    """One model and one context."""

    def __init__(self, folder: Path, threads: int, sharing: str, unified: bool) -> None:
        import llama_cpp as api
        import numpy as np

        self._api, self._np, self._sharing = api, np, sharing
        api.llama_backend_init()
        options = api.llama_model_default_params()
        options.n_gpu_layers = 0
        self._model = api.llama_model_load_from_file(os.fsencode(folder / "model.gguf"), options)
        if not self._model:
            raise RuntimeError(f"llama.cpp does not load {folder / 'model.gguf'}")
        self._vocab_size = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._model))
        params = api.llama_context_default_params()
        params.n_ctx = CONTEXT if unified else SEQUENCES * STREAM_CONTEXT
        params.n_batch, params.n_ubatch, params.n_seq_max = BATCH, UBATCH, SEQUENCES
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = unified
        params.no_perf = True
        self._context = api.llama_init_from_model(self._model, params)
        if not self._context:
            raise RuntimeError("llama.cpp makes no context")
        self._memory = api.llama_get_memory(self._context)
        self._batch = api.llama_batch_init(BATCH, 0, 1)
        self._decodes = 0

    def run(self, work: Work) -> dict[str, float]:
        """See `System.run`."""
        self._decodes = 0
        self._api.llama_memory_clear(self._memory, False)
        waiting = [
            Sequence(slot, prompt, due)
            for slot, (prompt, due) in enumerate(zip(work.prompts, work.outputs, strict=True))
        ]
        if len(waiting) > SEQUENCES:
            raise ValueError(f"{len(waiting)} requests, at most {SEQUENCES}")
        shared = common_prefix(work.prompts) if len(waiting) > 1 else 0
        if self._sharing == "kept" and shared >= SHARED_LEAST:
            for sequence in waiting:
                sequence.computed = shared if sequence.slot else 0
                sequence.slot = 0
                self._api.llama_memory_seq_rm(self._memory, 0, sequence.computed, -1)
                self._finish([sequence])
        elif self._sharing == "by hand" and shared >= SHARED_LEAST:
            self._decode([(token, place, 0, False) for place, token in enumerate(work.prompts[0][:shared])])
            for sequence in waiting:
                sequence.computed = shared
                if sequence.slot:
                    self._api.llama_memory_seq_cp(self._memory, 0, sequence.slot, 0, shared)
            self._finish(waiting)
        else:
            self._finish(waiting)
        made = sum(len(sequence.made) for sequence in waiting)
        if made != work.generated:
            raise RuntimeError(f"{made} tokens came, {work.generated} were asked for")
        return {"steps": float(self._decodes)}

    def logits(self, prompt: list[int]) -> Any:
        """float32 (vocab_size,) behind a prompt, for tests of the conversion."""
        self._api.llama_memory_clear(self._memory, False)
        self._decode([(token, place, 0, place == len(prompt) - 1) for place, token in enumerate(prompt)])
        return self._row(len(prompt) - 1).copy()

    def _finish(self, running: list[Sequence]) -> None:
        while running:
            tokens: list[tuple[int, int, int, bool]] = []
            due: list[tuple[Sequence, int]] = []
            for sequence in running:  # Those that decode go first, as all of them have to fit.
                if sequence.made:
                    due.append((sequence, len(tokens)))
                    tokens.append((sequence.made[-1], sequence.computed, sequence.slot, True))
                    sequence.computed += 1
            for sequence in running:
                if sequence.made or len(tokens) == BATCH:
                    continue
                until = min(len(sequence.prompt), sequence.computed + BATCH - len(tokens))
                last = len(sequence.prompt) - 1
                for place in range(sequence.computed, until):
                    if place == last:
                        due.append((sequence, len(tokens)))
                    tokens.append((sequence.prompt[place], place, sequence.slot, place == last))
                sequence.computed = until
            self._decode(tokens)
            for sequence, row in due:
                sequence.made.append(int(self._row(row).argmax()))
            for sequence in running:
                if len(sequence.made) == sequence.due and self._sharing != "kept":
                    self._api.llama_memory_seq_rm(self._memory, sequence.slot, -1, -1)
            running = [sequence for sequence in running if len(sequence.made) < sequence.due]

    def _row(self, row: int) -> Any:
        pointer = self._api.llama_get_logits_ith(self._context, row)
        return self._np.ctypeslib.as_array(pointer, shape=(self._vocab_size,))

    def _decode(self, tokens: list[tuple[int, int, int, bool]]) -> None:
        """A call with (token, position, sequence, whether its logits are wanted)."""
        batch = self._batch
        for i, (token, position, slot, wanted) in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = slot
            batch.logits[i] = wanted
        batch.n_tokens = len(tokens)
        status = self._api.llama_decode(self._context, batch)
        if status:
            raise RuntimeError(f"llama_decode answered {status}")
        self._decodes += 1


def make(folder: str, threads: int, sharing: str = "none", unified: bool = True) -> LlamaCpp:
    """See `SystemProcess`."""
    return LlamaCpp(Path(folder), threads, sharing, unified)
