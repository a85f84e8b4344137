"""`transformers` with scaled_dot_product_attention: one static batch padded on the left, or one request at a time."""

from pathlib import Path
from typing import Any

from benchmarks.works import Work


class Transformers:
    """The module over one checkpoint.

    Args:
        cache: keep keys and values; without, every token computes the whole text anew ("plain inference").
        at_once: all requests in one batch, until the longest has its tokens; otherwise one after the other.
    """

    def __init__(self, folder: Path, threads: int, cache: bool, at_once: bool) -> None:
        import torch
        import transformers

        torch.set_num_threads(threads)
        self._torch, self._cache, self._at_once = torch, cache, at_once
        load = transformers.AutoModelForCausalLM.from_pretrained
        self._model = load(folder, dtype="auto", attn_implementation="sdpa")

    def run(self, work: Work) -> dict[str, float]:
        """See `System.run`."""
        requests = list(zip(work.prompts, work.outputs, strict=True))
        batches: list[list[Any]] = [requests] if self._at_once else [[request] for request in requests]
        return {"steps": float(sum(self._generate(batch) for batch in batches))}

    def _generate(self, batch: list[tuple[tuple[int, ...], int]]) -> int:
        torch = self._torch
        longest = max(len(prompt) for prompt, _ in batch)
        steps = max(count for _, count in batch)
        ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt, _ in batch])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt, _ in batch])
        with torch.inference_mode():
            out = self._model.generate(
                ids,
                attention_mask=mask,
                do_sample=False,
                min_new_tokens=steps,
                max_new_tokens=steps,
                pad_token_id=0,
                use_cache=self._cache,
            )
        if out.shape[1] != longest + steps:
            raise RuntimeError(f"{out.shape[1] - longest} tokens came, {steps} were asked for")
        return steps


def make(folder: str, threads: int, cache: bool = True, at_once: bool = True) -> Transformers:
    """See `SystemProcess`."""
    return Transformers(Path(folder), threads, cache, at_once)
