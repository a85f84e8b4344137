"""CTranslate2: one static batch, which a request leaves when it has its tokens.

On a CPU it computes in float32 or int8 (no bfloat16), so it stands beside int8 only; its int8 multiplies int8 rows, as
W8A8 does, the output layer included. A common prefix is given as its `static_prompt`, which it computes once and keeps.
"""

from pathlib import Path
from typing import Any

from benchmarks.systems.environments import Peer
from benchmarks.works import SHARED_LEAST, Work, common_prefix

PEER = Peer(
    "CTranslate2",
    "ctranslate2",
    ("ctranslate2>=4.8,<5", "transformers>=5,<6", "torch"),
    {"int8": "int8"},
)


def convert(source: str, target: str, weights: str) -> None:
    """See `Peer`: its own converter; tokens are named by their number."""
    from types import SimpleNamespace

    from ctranslate2.converters import TransformersConverter

    class Numbers(TransformersConverter):  # type: ignore[misc]
        def load_tokenizer(self, *_: object, **__: object) -> object:
            return SimpleNamespace(get_vocab=dict, bos_token=word(0), eos_token=word(1), unk_token=word(0))

    Numbers(source).convert(target, quantization=weights, force=True)


def word(token: int) -> str:
    """What the converter calls a token that no tokenizer names."""
    return f"<extra_id_{token}>"


class CTranslate2:
    """One generator."""

    def __init__(self, folder: Path, threads: int) -> None:
        import ctranslate2 as api

        self._generator = api.Generator(str(folder), "cpu", compute_type="int8", inter_threads=1, intra_threads=threads)

    def run(self, work: Work) -> dict[str, float]:
        """See `System.run`."""
        shared = common_prefix(work.prompts) if len(work.prompts) > 1 else 0
        shared = shared if shared >= SHARED_LEAST else 0
        counts = [0] * len(work.prompts)

        def ends(step: Any) -> bool:
            counts[step.batch_id] += 1
            return bool(counts[step.batch_id] >= work.outputs[step.batch_id])

        longest = max(work.outputs)
        results = self._generator.generate_batch(
            [[word(token) for token in prompt[shared:]] for prompt in work.prompts],
            static_prompt=[word(token) for token in work.prompts[0][:shared]] or None,
            cache_static_prompt=True,
            include_prompt_in_result=False,
            max_length=longest,
            min_length=longest,
            sampling_topk=1,
            callback=ends,
        )
        made = [len(result.sequences_ids[0]) for result in results]
        if made != list(work.outputs):
            raise RuntimeError(f"{made} tokens came, {list(work.outputs)} were asked for")
        return {}


def make(folder: str, threads: int) -> CTranslate2:
    """See `SystemProcess`."""
    return CTranslate2(Path(folder), threads)
