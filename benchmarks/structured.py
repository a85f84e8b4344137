"""What constraints cost: tokens a second with them and without, and the time of one mask.

The model is the embedded one; the constraints cannot end before the last token, so every run generates as many. Runs
with and without are interleaved; the ratio is the speed with the constraint over that without. Where the form leaves
one token only, the model still computes it.

Masks are timed alone as well, without a model: over the embedded vocabulary (3,072 tokens) and over a made-up one of
131,072 words of letters, since the time grows with the vocabulary. Compiling is the time of the first request with a
constraint; a constraint that was seen before takes none.
"""

import random
import sys
import time

import numpy as np
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from benchmarks import common
from lepton_engine import LeptonEngine, SamplingParams, embedded
from lepton_engine.grammar.compiler import GrammarCompiler
from lepton_engine.grammar.vocabulary import Vocabulary
from lepton_engine.structured_outputs import StructuredOutputs
from lepton_engine.text.tokenizer import Tokenizer

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "email": {"type": "string", "format": "email"},
        "tags": {"type": "array", "items": {"enum": ["friend", "colleague", "family"]}, "maxItems": 5},
    },
    "required": ["name", "age", "email", "tags"],
    "additionalProperties": False,
}
TOOL = r"""start: (head call)* tail
head[lazy]: TEXT "<tool_call>"
tail: TEXT
TEXT: /(.|\n)*/
call: "\n{\"name\": \"look\", \"arguments\": " args "}\n</tool_call>"
args: %json {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}
"""
CONSTRAINTS = {
    "JSON schema": StructuredOutputs(json={"type": "array", "items": PERSON, "minItems": 200}),
    "regex": StructuredOutputs(regex=r"([A-Z][a-z]{2,9} ){400}"),
    "text with tool calls": StructuredOutputs(grammar=TOOL),
}
RUNS, TOKENS, WORDS = 5, 160, 1 << 17


def speed(engine: LeptonEngine, streams: int, tokens: int, constraint: StructuredOutputs | None, seed: int) -> float:
    """Tokens a second of all streams together."""
    params = SamplingParams(max_tokens=tokens, ignore_eos=True, structured_outputs=constraint, seed=seed)
    began = time.perf_counter()
    outputs = engine.generate(["Once upon a time"] * streams, params)
    return sum(len(output.outputs[0].token_ids) for output in outputs) / (time.perf_counter() - began)


def engine_rows(runs: int, tokens: int, streams: list[int]) -> list[common.Row]:
    """Speeds with and without."""
    rows = []
    with LeptonEngine(embedded.path(), kv_cache_memory=64 << 20) as engine:
        for count in streams:
            works: dict[str, StructuredOutputs | None] = {"without": None, **CONSTRAINTS}
            figures: dict[str, list[float]] = {name: [] for name in works}
            for run in range(runs + 1):
                for name, constraint in works.items():
                    value = speed(engine, count, tokens, constraint, run)
                    if run:  # The first warms up, and compiles.
                        figures[name].append(value)
            plain = common.median(figures["without"])
            for name in works:
                value = common.median(figures[name])
                ratio = None if name == "without" else value / plain
                rows.append(common.Row(f"decode, {count} streams", name, "embedded", value, "tok/s", ratio))
    return rows


def made_up_tokenizer(count: int) -> str:
    """A byte-level tokenizer of so many words of letters, half of them behind a space."""
    r = random.Random(0)
    words = dict.fromkeys(sorted(pre_tokenizers.ByteLevel.alphabet()))
    while len(words) < count - 1:
        words["Ġ" * r.randrange(2) + "".join(r.choices("etaoinshrdlcumwfgypbvk", k=r.randrange(2, 8)))] = None
    backend = Backend(models.BPE({word: i for i, word in enumerate(words)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<end>"])
    return str(backend.to_str())


def mask_rows(weights: str, tokenizer: str, vocab_size: int, eos: list[int], steps: int) -> list[common.Row]:
    """Times of compiling and of masks, each behind random tokens that were allowed before."""
    rows = []
    began = time.perf_counter()
    vocabulary = Vocabulary(tokenizer, vocab_size, eos)
    rows.append(common.Row("vocabulary, once", "lepton", weights, 1e3 * (time.perf_counter() - began), "ms"))
    compiler = GrammarCompiler(lambda: vocabulary)
    compiler.compile(StructuredOutputs(regex="a"))
    for name, constraint in CONSTRAINTS.items():
        began = time.perf_counter()
        grammar = compiler.compile(constraint)
        rows.append(common.Row(f"compile, {name}", "lepton", weights, 1e3 * (time.perf_counter() - began), "ms"))
        r, times = random.Random(1), []
        matcher = grammar.matcher(ignore_eos=True)
        mask = np.zeros((1, grammar.words), dtype=np.int32)
        for _ in range(steps):
            began = time.perf_counter()
            matcher.fill(mask)
            times.append(1e3 * (time.perf_counter() - began))
            allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
            if not len(allowed) or matcher.advance(int(r.choice(allowed))):
                matcher = grammar.matcher(ignore_eos=True)
        rows.append(common.Row(f"mask, {name}, median", "lepton", weights, common.median(times), "ms"))
        rows.append(common.Row(f"mask, {name}, p99", "lepton", weights, float(np.quantile(times, 0.99)), "ms"))
    return rows


def main() -> int:
    """Measure, print, write."""
    args = common.parser(__doc__).parse_args()
    runs, tokens, steps, words = (1, 24, 40, 1 << 13) if args.quick else (RUNS, TOKENS, 600, WORDS)
    rows = engine_rows(runs, tokens, [1, 2] if args.quick else [1, 8])
    own = Tokenizer.load(embedded.path())
    rows += mask_rows("3,072 tokens", own.backend.to_str(), own.vocab_size, [2, 3], steps)
    rows += mask_rows(f"{words:,} tokens", made_up_tokenizer(words), words, [words - 1], steps)
    for row in rows:
        row.versions = common.versions("llguidance")
    notes = ["The ratio is the speed with the constraint over that without. The large vocabulary is made up."]
    common.report("Structured output", rows, args.json, notes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
