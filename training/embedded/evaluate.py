"""Measure the embedded model: is its text well formed and its own, do answers fit, does it cope with the unseen?

``python -m training.embedded.evaluate`` samples from the committed checkpoint and prints what docs/embedded-model.md
tabulates.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

import lepton_engine.embedded
from lepton_engine import LeptonEngine, SamplingParams
from training.embedded import chat_en, chat_zh, checker_en, checker_zh, stories_en
from training.embedded.corpus import Document, corpus, mentions_held_out
from training.embedded.prompts import CHAT_QUESTIONS, OPENINGS, UNSEEN

SPAN = {"zh": 30, "en": 20}
"""Length of a span that may count as recited: Chinese characters, English words."""


Prompt = str | list[dict[str, str]]
"""Text to continue, or chat messages to answer."""


@dataclass(frozen=True)
class Sample:
    """What the model wrote after one prompt; ``finished`` is whether it ended by itself."""

    language: str
    prompt: str
    text: str
    finished: bool


class Writer:
    """Samples text from a checkpoint folder with the engine, all prompts of a call together; a context manager."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self._engine = LeptonEngine(str(folder))
        self._seed = seed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.shutdown()

    def write(self, prompts: Sequence[Prompt], temperature: float, max_tokens: int = 220) -> list[tuple[str, bool]]:
        """Return for each prompt what follows and if it ended; temperature 0 is greedy."""
        # Every sample has a seed of its own, so that equal prompts don't give equal texts.
        params = [
            SamplingParams(temperature=temperature, max_tokens=max_tokens, seed=self._seed * 1_000_003 + number)
            for number in range(len(prompts))
        ]
        outputs = self._engine.generate([self._ids(prompt) for prompt in prompts], params)
        return [(output.outputs[0].text, output.outputs[0].finish_reason == "stop") for output in outputs]

    def _ids(self, prompt: Prompt) -> list[int]:
        tokenizer = self._engine.tokenizer
        if isinstance(prompt, str):
            return tokenizer.encode(prompt)
        return tokenizer.encode(tokenizer.apply_chat_template(prompt), add_special_tokens=False)


def language_of(text: str) -> str:
    """Return ``zh`` or ``en`` by which script has more characters (a Chinese character counts for three letters)."""
    return "zh" if 3 * len(re.findall(r"[\u4e00-\u9fff]", text)) > len(re.findall(r"[A-Za-z]", text)) else "en"


def split(language: str, text: str) -> list[str]:
    """Split ``text`` of ``language`` into sentences."""
    return checker_zh.split(text) if language == "zh" else checker_en.split(text)


def sentences(sample: Sample, whole: bool = True) -> list[str]:
    """Return a sample's sentences, with the prompt's beginning; a last one that the token limit cut is left out."""
    text = sample.prompt + sample.text if whole else sample.text
    found = split(sample.language, text.strip())
    return found if sample.finished or not found else found[:-1]


def well_formed(language: str, sentence: str) -> bool:
    """Whether the checker of ``language`` accepts ``sentence``."""
    return checker_zh.well_formed(sentence) if language == "zh" else checker_en.well_formed(sentence)


def units(language: str, text: str) -> list[str]:
    """Return what spans are counted in: Chinese characters or English words (lower case), without punctuation."""
    return re.findall(r"[\u4e00-\u9fff]", text) if language == "zh" else re.findall(r"[a-z']+", text.lower())


def _hashes(items: Sequence[str], size: int) -> npt.NDArray[np.uint64]:
    if len(items) < size:
        return np.zeros(0, np.uint64)
    codes = np.array([hash(item) & 0xFFFFFFFFFFFFFFFF for item in items], dtype=np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, size)
    powers = np.full(size, 1_000_003, np.uint64).cumprod(dtype=np.uint64)
    return np.asarray((windows * powers).sum(axis=1, dtype=np.uint64))


def recited(samples: Iterable[Sample], documents: Iterable[Document]) -> dict[str, float]:
    """Return per language the share of the samples' spans that stand verbatim in a document."""
    spans: dict[str, list[npt.NDArray[np.uint64]]] = {"zh": [], "en": []}
    for sample in samples:
        spans[sample.language].append(
            _hashes(units(sample.language, sample.prompt + sample.text), SPAN[sample.language])
        )
    wanted = {language: np.concatenate(found) if found else np.zeros(0, np.uint64) for language, found in spans.items()}
    seen = {language: np.zeros(len(found), bool) for language, found in wanted.items()}
    block: dict[str, list[npt.NDArray[np.uint64]]] = {"zh": [], "en": []}

    def look(language: str) -> None:
        if block[language]:
            seen[language] |= np.isin(wanted[language], np.concatenate(block[language]))
            block[language] = []

    for document in documents:
        block[document.language].append(_hashes(units(document.language, document.plain()), SPAN[document.language]))
        if len(block[document.language]) == 2000:
            look(document.language)
    for language in block:
        look(language)
    return {language: float(found.mean()) if len(found) else 0.0 for language, found in seen.items()}


def free_samples(writer: Writer, count: int, temperature: float) -> list[Sample]:
    """Sample ``count`` texts: a quarter each of Chinese openings, English openings, Chinese and English questions."""
    quarter = count // 4
    rng = random.Random(12345)
    prompts: list[tuple[str, Prompt]] = []
    for language in ("zh", "en"):
        prompts += [(language, rng.choice(OPENINGS[language])) for _ in range(quarter)]
        prompts += [
            (language, [{"role": "user", "content": rng.choice(CHAT_QUESTIONS[language])}]) for _ in range(quarter)
        ]
    written = writer.write([prompt for _, prompt in prompts], temperature)
    return [
        Sample(language, prompt if isinstance(prompt, str) else "", text, finished)
        for (language, prompt), (text, finished) in zip(prompts, written, strict=True)
    ]


def told_questions(language: str, count: int) -> list[tuple[str, str]]:
    """Return questions about short stories that mention a held-out pair, with the right answers."""
    rng = random.Random(777)
    found: list[tuple[str, str]] = []
    while len(found) < count:
        question, answer = (chat_zh.told(rng) if language == "zh" else chat_en.told(rng))[0]
        if language == "en":
            question, answer = stories_en.polish(question), stories_en.polish(answer)
        if mentions_held_out(language, question):
            found.append((question, answer))
    return found


def measure(folder: Path, count: int, documents: int, corpus_seed: int, seed: int) -> dict[str, float]:
    """Return all measurements of a checkpoint, shares between 0 and 1."""
    asked = {language: told_questions(language, 100) for language in ("zh", "en")}
    with Writer(folder, seed) as writer:
        samples = free_samples(writer, count, 0.8)
        answers = {
            language: writer.write([[{"role": "user", "content": question}] for question, _ in each], 0.0, 60)
            for language, each in asked.items()
        }
    result: dict[str, float] = {"samples": len(samples)}
    for language in ("zh", "en"):
        checked = [
            (sentence, well_formed(language, sentence))
            for each in samples
            if each.language == language
            for sentence in sentences(each)
        ]
        result[f"sentences {language}"] = len(checked)
        result[f"well formed {language}"] = sum(good for _, good in checked) / len(checked)
    total = result["sentences zh"] + result["sentences en"]
    result["well formed"] = (
        sum(result[f"well formed {each}"] * result[f"sentences {each}"] for each in ("zh", "en")) / total
    )
    result["ended by itself"] = sum(each.finished for each in samples) / len(samples)
    result["right language"] = sum(language_of(each.text) == each.language for each in samples) / len(samples)
    for language, share in recited(samples, corpus(corpus_seed, documents)).items():
        result[f"recited {language}"] = share
    for language, pairs in asked.items():
        right = [text.strip() == wanted for (text, _), (_, wanted) in zip(answers[language], pairs, strict=True)]
        result[f"answers right {language}"] = sum(right) / len(right)
    return result


def show_unseen(folder: Path, seed: int) -> str:
    """Return the prompts with held-out combinations and what the model writes, as Markdown."""
    prompts: list[Prompt] = [
        [{"role": "user", "content": entry.prompt}] if entry.chat else entry.prompt for entry in UNSEEN
    ]
    with Writer(folder, seed) as writer:
        written = writer.write(prompts, 0.8)
    parts = []
    for number, (entry, (text, _)) in enumerate(zip(UNSEEN, written, strict=True), 1):
        kind = "Question" if entry.chat else "Opening"
        parts.append(f"{number}. {kind}; {entry.person} and {entry.place} are never together in training.\n")
        # A question and its answer stand apart; an opening goes on without a break.
        parts.append(f"   > **{entry.prompt}**" + (f"\n   >\n   > {text}\n" if entry.chat else f"{text}\n"))
    return "\n".join(parts)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", type=Path, default=lepton_engine.embedded.path(), help="checkpoint folder")
    parser.add_argument("--samples", type=int, default=200, help="how many texts to sample at temperature 0.8")
    parser.add_argument(
        "--documents", type=int, default=70_000, help="size of the training corpus, to look for recited spans"
    )
    parser.add_argument("--corpus-seed", type=int, default=1, help="seed of the training corpus")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling")
    parser.add_argument("--unseen", action="store_true", help="print the prompts with held-out combinations instead")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    options = parser.parse_args()
    if options.unseen:
        print(show_unseen(options.checkpoint, options.seed))
        return
    result = measure(options.checkpoint, options.samples, options.documents, options.corpus_seed, options.seed)
    for name, value in result.items():
        print(f"{name:20} {value:.0f}" if value > 1 else f"{name:20} {100 * value:.1f} %")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
