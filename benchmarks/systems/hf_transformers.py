"""`transformers` with its KV cache and scaled_dot_product_attention: one static batch, padded on the left."""

from pathlib import Path

import torch
import transformers

from benchmarks.works import Work


class Transformers:
    """The module over one checkpoint."""

    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        load = transformers.AutoModelForCausalLM.from_pretrained
        self._model = load(folder, dtype="auto", attn_implementation="sdpa")

    def run(self, work: Work) -> dict[str, float]:
        """See `System.run`: all requests in one batch, until the longest has its tokens."""
        longest = max(map(len, work.prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in work.prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in work.prompts])
        steps = max(work.outputs)
        with torch.inference_mode():
            out = self._model.generate(
                ids,
                attention_mask=mask,
                do_sample=False,
                min_new_tokens=steps,
                max_new_tokens=steps,
                pad_token_id=0,
            )
        if out.shape[1] != longest + steps:
            raise RuntimeError(f"{out.shape[1] - longest} tokens came, {steps} were asked for")
        return {"steps": float(steps)}


def make(folder: Path, threads: int) -> Transformers:
    """See `SystemProcess`."""
    return Transformers(folder, threads)
