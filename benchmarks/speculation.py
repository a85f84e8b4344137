"""Speculative decoding: acceptance, and tokens a second with it and without, one request at a time.

The target is the embedded model, which was trained; greedy. Two works: a prompt that repeats itself, where prompt
lookup finds what comes, and plain prose, where it seldom does. The draft model is one of random weights with the
embedded model's vocabulary: none was trained for it, so its acceptance is that of chance, and its row shows what a
useless draft model costs once the draft length has adapted. A ratio above 1 says that speculation is faster. Runs are
interleaved.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import common
from lepton_engine import LeptonEngine, SamplingParams, SpeculationSettings, embedded

PROSE = "Once upon a time there was a small town by the sea. One morning"
WORKS = {
    "repetitive prompt": "one two three four five six seven, " * 12,
    "prose": PROSE,
}
RUNS, TOKENS = 5, 160


def random_draft(folder: Path) -> Path:
    """A checkpoint of one small layer with random weights and the embedded model's vocabulary."""
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary = json.loads((embedded.path() / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=vocabulary, num_hidden_layers=1, max_position_embeddings=2048, **shape)  # type: ignore[arg-type]
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def measure(engine: LeptonEngine, prompt: str, tokens: int) -> float:
    """Tokens a second of one request, its prompt included."""
    params = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)
    began = time.perf_counter()
    (output,) = engine.generate(prompt, params)
    return len(output.outputs[0].token_ids) / (time.perf_counter() - began)


def main() -> int:
    """Measure, print, write."""
    args = common.parser(__doc__).parse_args()
    runs, tokens = (2, 40) if args.quick else (RUNS, TOKENS)
    rows: list[common.Row] = []
    with tempfile.TemporaryDirectory() as folder:
        draft = str(random_draft(Path(folder)))
        settings = {
            "without": None,
            "ngram": SpeculationSettings("ngram", 6),
            "draft, random weights": SpeculationSettings("draft", 4, draft),
        }
        engines = {
            name: LeptonEngine(embedded.path(), kv_cache_memory=64 << 20, speculation=speculation)
            for name, speculation in settings.items()
        }
        for work, prompt in WORKS.items():
            figures: dict[str, list[float]] = {name: [] for name in engines}
            before = {name: engine.stats() for name, engine in engines.items()}
            for run in range(runs + 1):
                for name, engine in engines.items():
                    value = measure(engine, prompt, tokens)
                    if run:  # The first warms up.
                        figures[name].append(value)
            plain = common.median(figures["without"])
            for name, engine in engines.items():
                value = common.median(figures[name])
                ratio = value / plain if name != "without" else None
                rows.append(common.Row(work, name, "embedded", value, "tok/s", ratio))
                drafted = engine.stats().drafted_tokens - before[name].drafted_tokens
                accepted = engine.stats().accepted_tokens - before[name].accepted_tokens
                if drafted:
                    rows.append(common.Row(f"{work}, accepted", name, "embedded", 100 * accepted / drafted, "%"))
        for engine in engines.values():
            engine.shutdown()
    notes = ["The ratio is the speed with speculation over that without. The draft model is untrained: chance accepts."]
    common.report("Speculative decoding, one request at a time, greedy", rows, args.json, notes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
