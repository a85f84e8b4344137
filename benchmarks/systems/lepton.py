"""Lepton, in process."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.works import Work
from lepton_engine import LeptonEngine, SamplingParams
from lepton_engine.models import decoder


class Lepton:
    """The engine over one checkpoint; its prefix cache is emptied by fresh prompts, not by hand."""

    def __init__(self, folder: Path, threads: int, options: Mapping[str, Any], plan: bool) -> None:
        with contextlib.ExitStack() as stack:
            if not plan:
                stack.enter_context(mock.patch.object(decoder, "plan_decoder", return_value=None))
            self._engine = LeptonEngine(folder, num_threads=threads, kv_cache_memory=2 << 30, **options)

    def run(self, work: Work) -> dict[str, float]:
        """See `System.run`."""
        params = [SamplingParams(temperature=0, max_tokens=count, ignore_eos=True) for count in work.outputs]
        before = self._engine.stats()
        outputs = self._engine.generate([list(prompt) for prompt in work.prompts], params)
        after = self._engine.stats()
        generated = sum(len(output.outputs[0].token_ids) for output in outputs)
        if generated != work.generated:
            raise RuntimeError(f"{generated} tokens came, {work.generated} were asked for")
        return {
            "prompt tokens": after.prompt_tokens - before.prompt_tokens,
            "computed tokens": after.computed_tokens - before.computed_tokens,
            "prefix hits": after.prefix_hit_tokens - before.prefix_hit_tokens,
            "steps": after.num_steps - before.num_steps,
        }


def make(
    folder: str | Path,
    threads: int,
    quantization: str | None = None,
    options: Mapping[str, Any] | None = None,
    plan: bool = True,
) -> Lepton:
    """See `SystemProcess`. options: further ones of `LeptonEngine`. plan: whether a forward pass is one native call."""
    return Lepton(Path(folder), threads, {"quantization": quantization, **(options or {})}, plan)
