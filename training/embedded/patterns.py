"""Regular patterns over word classes, matched in polynomial time: what both checkers are built on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Arcs = Sequence[Mapping[str, frozenset[int]]]
"""A sentence as the checkers see it: for each position and each class, where its words that begin there can end.

Positions are words in English and characters in Chinese, which is written without blanks: there the
grammar finds the words.
"""


@dataclass(eq=False)
class Node:
    """Part of a pattern; ``ends`` says where a match that starts at a word can end."""

    kind: str  # "class", "rule", "sequence", "choice", "repeat"
    name: str = ""
    parts: list[Node] = field(default_factory=list)
    least: int = 1
    most: int = 1


_TOKEN = re.compile(r"\s+|<(\w+)>|@(\w+)|[()|?*+]")


def parse(pattern: str) -> Node:
    """Parse a pattern: ``<noun>`` a word of a class, ``@NP`` a rule, and ``( ) | ? * +`` as in regular expressions.

    Raises ValueError where the pattern is not one.
    """
    tokens: list[re.Match[str]] = []
    position = 0
    while position < len(pattern):
        match = _TOKEN.match(pattern, position)
        if match is None:
            raise ValueError(f"pattern has {pattern[position : position + 10]!r} at {position}")
        if not match[0].isspace():
            tokens.append(match)
        position = match.end()
    node, rest = _choice(tokens, 0)
    if rest != len(tokens):
        raise ValueError(f"pattern has an unmatched ) in {pattern!r}")
    return node


def _choice(tokens: list[re.Match[str]], at: int) -> tuple[Node, int]:
    options: list[Node] = [Node("sequence")]
    while at < len(tokens) and tokens[at][0] != ")":
        if tokens[at][0] == "|":
            options.append(Node("sequence"))
            at += 1
            continue
        if tokens[at][0] == "(":
            item, at = _choice(tokens, at + 1)
            at += 1
        else:
            match = tokens[at]
            item = Node("class", match[1]) if match[1] else Node("rule", match[2])
            at += 1
        if at < len(tokens) and tokens[at][0] in "?*+":
            least = 1 if tokens[at][0] == "+" else 0
            item = Node("repeat", parts=[item], least=least, most=1 if tokens[at][0] == "?" else 1000)
            at += 1
        options[-1].parts.append(item)
    return (options[0] if len(options) == 1 else Node("choice", parts=options)), at


class Grammar:
    """Named rules; a rule may use any other, but none may begin with itself."""

    def __init__(self, rules: Mapping[str, str]) -> None:
        self._rules = {name: parse(pattern) for name, pattern in rules.items()}

    def matches(self, arcs: Arcs, rule: str = "SENTENCE") -> bool:
        """Whether ``rule`` matches all of the sentence under some choice of words and of one class for each."""
        return len(arcs) in self._ends(self._rules[rule], 0, arcs, {})

    def _ends(self, node: Node, start: int, arcs: Arcs, memo: dict[tuple[int, int], frozenset[int]]) -> frozenset[int]:
        if node.kind == "class":
            return arcs[start].get(node.name, frozenset()) if start < len(arcs) else frozenset()
        key = (id(node), start)
        known = memo.get(key)
        if known is not None:
            return known
        if node.kind == "rule":
            found = self._ends(self._rules[node.name], start, arcs, memo)
        elif node.kind == "choice":
            found = frozenset().union(*(self._ends(part, start, arcs, memo) for part in node.parts))
        elif node.kind == "sequence":
            found = frozenset((start,))
            for part in node.parts:
                found = frozenset().union(*(self._ends(part, end, arcs, memo) for end in found))
        else:
            found = self._repeated(node, start, arcs, memo)
        memo[key] = found
        return found

    def _repeated(
        self, node: Node, start: int, arcs: Arcs, memo: dict[tuple[int, int], frozenset[int]]
    ) -> frozenset[int]:
        reached = {start}
        new = {start}
        for _ in range(node.most):
            new = {end for begin in new for end in self._ends(node.parts[0], begin, arcs, memo)} - reached
            if not new:
                break
            reached |= new
        if node.least and start not in self._ends(node.parts[0], start, arcs, memo):
            reached.discard(start)
        return frozenset(reached)
