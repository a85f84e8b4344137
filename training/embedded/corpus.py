"""The training corpus of the embedded model: bilingual everyday stories and conversations, made on the spot.

Document ``i`` of a corpus depends only on ``(seed, i)``. Some combinations of a person and a place are held out: no
document mentions both, so prompts that combine them show what the model writes about things that it never saw together.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from training.embedded import chat_en, chat_zh, stories_en, stories_zh, tales_en, tales_zh, words_en, words_zh

HELD_OUT_SHARE = 0.06
"""Share of all (person, place) pairs of a language that training never sees."""


@dataclass(frozen=True)
class Document:
    """One document in ``zh`` or ``en``; either ``text`` (a story) or ``messages`` (a conversation) is set."""

    language: str
    text: str = ""
    messages: tuple[tuple[str, str], ...] = ()

    def plain(self) -> str:
        """Return the whole text without roles, one message a line."""
        return self.text or "\n".join(content for _, content in self.messages)

    def chat(self) -> list[dict[str, str]]:
        """Return the messages as a chat template takes them."""
        return [{"role": role, "content": content} for role, content in self.messages]


def _pattern(names: list[str], boundary: str) -> re.Pattern[str]:
    longest_first = sorted(set(names), key=len, reverse=True)
    return re.compile(boundary + "(" + "|".join(map(re.escape, longest_first)) + ")" + boundary, re.IGNORECASE)


_PEOPLE = {
    "zh": [*words_zh.MEN, *words_zh.WOMEN, *words_zh.MALE_KIN, *words_zh.FEMALE_KIN],
    "en": [*words_en.MEN, *words_en.WOMEN, *words_en.MALE_KIN, *words_en.FEMALE_KIN],
}
_PLACES = {
    "zh": [place["text"] for place in words_zh.PLACES],
    "en": [place["text"].removeprefix("the ") for place in words_en.PLACES],
}
_BOUNDARY = {"zh": "", "en": r"\b"}
_PERSON = {language: _pattern(names, _BOUNDARY[language]) for language, names in _PEOPLE.items()}
_PLACE = {language: _pattern(names, _BOUNDARY[language]) for language, names in _PLACES.items()}


def held_out(person: str, place: str) -> bool:
    """Whether this person and this place must never stand in one document (by a hash of both, so it needs no list)."""
    digest = hashlib.sha256(f"{person.lower()}|{place.lower()}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def held_out_pairs(language: str) -> list[tuple[str, str]]:
    """Return all held-out (person, place) pairs of ``language``."""
    return [(who, place) for who in _PEOPLE[language] for place in _PLACES[language] if held_out(who, place)]


def mentions_held_out(language: str, text: str) -> bool:
    """Whether ``text`` mentions the person and the place of a held-out pair, anywhere and in any order."""
    people = {match.lower() for match in _PERSON[language].findall(text)}
    places = {match.lower() for match in _PLACE[language].findall(text)}
    return any(held_out(who, place) for who in people for place in places)


def document(seed: int, index: int) -> Document:
    """Return document ``index`` of the corpus ``seed``: equal arguments give equal documents, on every machine."""
    rng = random.Random(f"{seed}:{index}")
    while True:
        language = "zh" if rng.random() < 0.5 else "en"
        kind = rng.random()
        if kind < 0.42:
            made = Document(language, text=(stories_zh if language == "zh" else stories_en).story(rng).text)
        elif kind < 0.56:
            made = Document(language, text=(tales_zh if language == "zh" else tales_en).tale(rng))
        else:
            messages = chat_zh.conversation(rng) if language == "zh" else chat_en.conversation(rng)
            made = Document(language, messages=tuple((message["role"], message["content"]) for message in messages))
        if not mentions_held_out(language, made.plain()):
            return made


def corpus(seed: int, size: int) -> Iterator[Document]:
    """Yield the first ``size`` documents of the corpus ``seed``."""
    return (document(seed, index) for index in range(size))
