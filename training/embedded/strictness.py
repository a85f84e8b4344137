"""How much broken text do the checkers reject? Sentences of the corpus, broken in several ways, and the share rejected.

``python -m training.embedded.strictness`` prints the second table of docs/embedded-model.md.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from training.embedded import lexicon_zh
from training.embedded.corpus import corpus
from training.embedded.evaluate import split, well_formed

Breaking = Callable[[list[str], random.Random, list[str]], list[str]]
"""Takes a sentence's words, a source of chance and words of other sentences; returns the broken sentence's words."""

_KNOWN = frozenset(lexicon_zh.build())


def cut(language: str, sentence: str) -> list[str]:
    """Return the words of a sentence without its final mark; Chinese ones are the longest that the lexicon knows."""
    body = sentence[:-1]
    if language == "en":
        return body.split()
    words: list[str] = []
    while body:
        size = next((size for size in range(8, 1, -1) if body[:size] in _KNOWN), 1)
        words.append(body[:size])
        body = body[size:]
    return words


def shuffled(words: list[str], rng: random.Random, _: list[str]) -> list[str]:
    """All words in another order."""
    return rng.sample(words, len(words))


def doubled(words: list[str], rng: random.Random, _: list[str]) -> list[str]:
    """One word twice."""
    at = rng.randrange(len(words))
    return [*words[: at + 1], *words[at:]]


def swapped(words: list[str], rng: random.Random, _: list[str]) -> list[str]:
    """Two neighbors exchanged."""
    at = rng.randrange(len(words) - 1)
    return [*words[:at], words[at + 1], words[at], *words[at + 2 :]]


def replaced(words: list[str], rng: random.Random, others: list[str]) -> list[str]:
    """One word replaced by a word of another sentence."""
    at = rng.randrange(len(words))
    return [*words[:at], rng.choice(others), *words[at + 1 :]]


def shortened(words: list[str], rng: random.Random, _: list[str]) -> list[str]:
    """One word left out."""
    at = rng.randrange(len(words))
    return [*words[:at], *words[at + 1 :]]


def misspelled(words: list[str], rng: random.Random, others: list[str]) -> list[str]:
    """One character replaced by one of another sentence."""
    at = rng.choice([number for number, word in enumerate(words) if word[-1].isalpha()])
    letters = list(words[at])
    place = rng.randrange(len(letters))
    letters[place] = rng.choice([sign for word in others for sign in word if sign.isalpha() and sign != letters[place]])
    return [*words[:at], "".join(letters), *words[at + 1 :]]


BREAKINGS: dict[str, Breaking] = {
    "words shuffled": shuffled,
    "one word doubled": doubled,
    "two neighbors exchanged": swapped,
    "one character replaced": misspelled,
    "one word replaced by another": replaced,
    "one word left out": shortened,
}


def sentences(language: str, seed: int, documents: int) -> list[str]:
    """Return the sentences of a corpus in ``language``."""
    found: list[str] = []
    for document in corpus(seed, documents):
        if document.language == language:
            for text in [document.text] if document.text else [content for _, content in document.messages]:
                found += split(language, text)
    return found


def broken(language: str, sources: list[str], breaking: Breaking, seed: int = 5) -> list[str]:
    """Return ``sources`` broken; those with quotations or fewer than four words are left out."""
    rng = random.Random(seed)
    plain = [each for each in sources if not set('“"') & set(each) and len(cut(language, each)) >= 4]
    others = [word for each in plain for word in cut(language, each)]
    results = []
    for sentence in plain:
        words = cut(language, sentence)
        if language == "en" and words[0] != "I":
            words[0] = words[0][0].lower() + words[0][1:]
        changed = breaking(words, rng, others[:400])
        if changed != words:
            text = (" " if language == "en" else "").join(changed)
            results.append(text[0].upper() + text[1:] + sentence[-1])
    return results


def rejected(language: str, texts: list[str]) -> float:
    """Return the share of ``texts`` that the checker rejects."""
    return sum(not well_formed(language, each) for each in texts) / len(texts)


def main() -> None:
    """Print the table."""
    sources = {language: random.Random(0).sample(sentences(language, 4, 1200), 500) for language in ("zh", "en")}
    print("| sentences | Chinese | English |\n|---|---|---|")
    shares = [f"{100 * rejected(language, sources[language]):.1f} %" for language in ("zh", "en")]
    print(f"| as they are | {shares[0]} | {shares[1]} |")
    for name, breaking in BREAKINGS.items():
        shares = [
            f"{100 * rejected(language, broken(language, sources[language], breaking)):.0f} %"
            for language in ("zh", "en")
        ]
        print(f"| {name} | {shares[0]} | {shares[1]} |")


if __name__ == "__main__":
    main()
