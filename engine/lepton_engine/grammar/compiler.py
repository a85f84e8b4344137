"""Constraints to grammars over the model's tokens, the last ones kept."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llguidance import LLMatcher, LLParserLimits

from lepton_engine.errors import InvalidRequestError
from lepton_engine.grammar.matcher import Grammar, reason_of
from lepton_engine.grammar.vocabulary import Vocabulary
from lepton_engine.structured_outputs import StructuredOutputs

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions  # exists for type checkers only

MAX_CACHED = 128
MAX_CACHED_BYTES = 4 << 20

# Where JSON allows white space, models may write none, a space, or a line break with an indent: without a bound a model
# that has lost its way writes white space until its last token. A schema's own `x-guidance` takes the place of this.
JSON_DEFAULTS: JsonCompileOptions = {"whitespace_pattern": r"( |\r?\n[ \t]{0,32})"}

_METACHARACTERS = re.compile(r"[\\.+*?()|\[\]{}^$#&\-~/]")

Key = tuple[str, str, str | tuple[str, ...]]


class GrammarCompiler:
    """Compiles constraints, in whatever thread calls; tenants share no compiled grammar, whose timing would tell.

    Args:
        load_vocabulary: called once, at the first constraint: it may take a second.
    """

    def __init__(self, load_vocabulary: Callable[[], Vocabulary]) -> None:
        self._load_vocabulary = load_vocabulary
        self._vocabulary: Vocabulary | None = None
        self._loading = threading.Lock()
        self._cache: OrderedDict[Key, Grammar] = OrderedDict()
        self._bytes = 0
        self._guard = threading.Lock()

    def cached(self, constraint: StructuredOutputs, tenant: str = "") -> Grammar | None:
        """The grammar of a constraint that was compiled before; None if it has to be compiled."""
        with self._guard:
            key = _key(constraint, tenant)
            found = self._cache.get(key)
            if found is not None:
                self._cache.move_to_end(key)
            return found

    def compile(self, constraint: StructuredOutputs, tenant: str = "") -> Grammar:
        """The grammar of a constraint.

        Raises:
            InvalidRequestError: it is malformed, allows no output at all, or is beyond a limit; names its field.
            UnsupportedError: the model's tokenizer is of a kind that grammars do not know.
        """
        found = self.cached(constraint, tenant)
        if found is not None:
            return found
        vocabulary = self._load()
        start = LLMatcher(vocabulary.tokenizer, _source(constraint), log_level=0, limits=limits())
        if not start.is_error():
            start.compute_bitmask()  # Finds what allows no first token, and makes the lexer's first states.
        if start.is_error():
            raise InvalidRequestError(constraint.field, f"cannot be used: {reason_of(start.get_error())}")
        key = _key(constraint, tenant)
        grammar = Grammar(
            start,
            field=constraint.field,
            words=vocabulary.words,
            eos_token_ids=vocabulary.eos_token_ids,
            forget=lambda grammar: self._forget(key, grammar),
        )
        self._keep(key, grammar)
        return grammar

    @property
    def num_cached(self) -> int:
        """Grammars that are kept."""
        return len(self._cache)

    def _load(self) -> Vocabulary:
        with self._loading:
            if self._vocabulary is None:
                self._vocabulary = self._load_vocabulary()
            return self._vocabulary

    def _keep(self, key: Key, grammar: Grammar) -> None:
        with self._guard:
            if key not in self._cache:
                self._cache[key] = grammar
                self._bytes += _size(key)
            while len(self._cache) > MAX_CACHED or self._bytes > MAX_CACHED_BYTES:
                old, _ = self._cache.popitem(last=False)
                self._bytes -= _size(old)

    def _forget(self, key: Key, grammar: Grammar) -> None:
        with self._guard:
            if self._cache.get(key) is grammar:
                del self._cache[key]
                self._bytes -= _size(key)


def limits() -> LLParserLimits:
    """What a grammar may cost: building it, one mask of it, and all of its lexer's states (about 2 kB each)."""
    return LLParserLimits(max_lexer_states=50_000, verbose_errors=False)


def _key(constraint: StructuredOutputs, tenant: str) -> Key:
    return tenant, constraint.kind, constraint.value


def _size(key: Key) -> int:
    return sum(map(len, key[2])) if isinstance(key[2], tuple) else len(key[2])


def _source(constraint: StructuredOutputs) -> str:
    """The constraint as llguidance reads it.

    Raises:
        InvalidRequestError: it is malformed.
    """
    if constraint.regex is not None:
        return LLMatcher.grammar_from_regex(constraint.regex)
    if constraint.choice is not None:
        return LLMatcher.grammar_from_regex("|".join(map(_literal, constraint.choice)))
    if constraint.grammar is not None:
        if constraint.grammar.lstrip().startswith("{"):  # llguidance would read a format of its own
            raise InvalidRequestError(constraint.field, "cannot be used: it is JSON, no grammar in Lark syntax")
        return constraint.grammar
    schema: Any = json.loads(str(constraint.json))
    if schema is False:
        raise InvalidRequestError(constraint.field, "cannot be used: the schema false allows no value")
    schema = {} if schema is True else schema
    try:
        return LLMatcher.grammar_from_json_schema(schema, defaults=None if "x-guidance" in schema else JSON_DEFAULTS)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(constraint.field, f"cannot be used: {reason_of(str(error))}") from error


def _literal(text: str) -> str:
    """A regular expression that matches this text only, in Rust's syntax."""
    return _METACHARACTERS.sub(r"\\\g<0>", text).replace("\n", r"\n").replace("\r", r"\r").replace("\t", r"\t")
