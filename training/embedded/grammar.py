"""Templates with slots: the mechanism behind the corpus.

A template is text with slots in braces. ``{food}`` draws a word from the table ``food`` at random; ``{food1}`` draws
once for the whole document and repeats that word wherever ``{food1}`` stands again; ``{act1.past}`` is a named form of
a word that has several. Names that the story has set itself (its hero, its place) win over the tables.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Word = str | Mapping[str, str]
"""A table's entry: plain text, or named forms of which ``text`` is the one used without a form name."""

_SLOT = re.compile(r"\{([A-Za-z_]+)(\d*)(?:\.(\w+))?\}")


def words(text: str) -> list[str]:
    """Split a table written as text: entries stand between commas or line ends, blank ones are dropped."""
    return [entry.strip() for entry in re.split(r"[,\n]", text) if entry.strip()]


def form(word: Word, name: str | None) -> str:
    """Return the form ``name`` of ``word`` (``text`` without a name); raises KeyError for a form it hasn't."""
    if isinstance(word, str):
        if name is not None:
            raise KeyError(f"{word!r} has no form {name!r}")
        return word
    return word[name or "text"]


@dataclass
class Filler:
    """Fills the slots of one document.

    ``tables`` maps a table's name to its words, ``values`` holds what is fixed for this document (numbered draws end up
    here too), ``resolvers`` are names whose text depends on what was said before, such as a name that turns
    into a pronoun.
    """

    rng: random.Random
    tables: Mapping[str, Sequence[Word]]
    values: dict[str, Word] = field(default_factory=dict)
    resolvers: Mapping[str, Callable[[], str]] = field(default_factory=dict)

    def draw(self, name: str, digits: str) -> Word:
        """Return the word for a slot; equal numbered slots share a word, different numbers of a table never do."""
        key = name + digits
        if key in self.values:
            return self.values[key]
        if name not in self.tables:
            raise KeyError(f"no table or value named {name!r}")
        word = self.rng.choice(self.tables[name])
        taken = [value for other, value in self.values.items() if other.rstrip("0123456789") == name]
        for _ in range(8):
            if word not in taken:
                break
            word = self.rng.choice(self.tables[name])
        if digits:
            self.values[key] = word
        return word

    def fill(self, template: str) -> str:
        """Replace every slot of ``template``; slots are filled from left to right.

        The story's subject ``{S}`` is named at most once in a template: after that the pronoun ``{P}`` stands.
        """
        first, subject, rest = template.partition("{S}")
        template = first + subject + rest.replace("{S}", "{P}")

        def replace(match: re.Match[str]) -> str:
            name, digits, form_name = match.groups()
            if not digits and name in self.resolvers and name not in self.values:
                return self.resolvers[name]()
            return form(self.draw(name, digits), form_name)

        return _SLOT.sub(replace, template)

    def one(self, templates: Sequence[str]) -> str:
        """Fill one of ``templates``, drawn at random."""
        return self.fill(self.rng.choice(templates))
