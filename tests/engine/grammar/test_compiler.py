"""Constraints to grammars: what tokens say to them, what is refused, what is kept."""

import itertools
import json
import time
from collections.abc import Sequence

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from lepton_engine.errors import InvalidRequestError, UnsupportedError
from lepton_engine.grammar import compiler as compiling
from lepton_engine.grammar.compiler import GrammarCompiler
from lepton_engine.grammar.matcher import Matcher
from lepton_engine.grammar.vocabulary import Vocabulary
from lepton_engine.structured_outputs import StructuredOutputs
from lepton_engine.text.tokenizer import Tokenizer as OwnTokenizer
from tests.engine.conftest import byte_level_tokenizer

EOS = 256


def byte_fallback_tokenizer() -> Tokenizer:
    """As SentencePiece writes it: a mark for spaces, and bytes for what no token has. Token 2 ends a text."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁yes", "yes", "▁no", "no", "é"]
    tokenizer = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def compiler_of(tokenizer: Tokenizer, eos: Sequence[int] = (EOS,), size: int | None = None) -> GrammarCompiler:
    own = OwnTokenizer(tokenizer)
    vocab_size = own.vocab_size if size is None else size
    return GrammarCompiler(lambda: Vocabulary(own.backend.to_str(), vocab_size, eos))


def allowed(matcher: Matcher, size: int) -> set[int]:
    mask = np.zeros((1, matcher.grammar.words), dtype=np.int32)
    matcher.fill(mask)
    return set(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little", count=size)).tolist())


def walk(matcher: Matcher, tokens: Sequence[int], size: int) -> list[set[int]]:
    """What is allowed before each token and behind the last."""
    steps = [allowed(matcher, size)]
    for token in tokens:
        assert token in steps[-1], (token, steps[-1])
        matcher.advance(token)
        steps.append(allowed(matcher, size))
    return steps


def test_bytes_of_byte_level_tokens() -> None:
    tokenizer = byte_level_tokenizer()
    ids = tokenizer.encode("é!").ids
    matcher = compiler_of(tokenizer).compile(StructuredOutputs(regex="é!?")).matcher()
    assert walk(matcher, ids, 257) == [{ids[0]}, {ids[1]}, {ids[2], EOS}, {EOS}]


def test_tokens_of_byte_fallback_tokenizers() -> None:
    tokenizer = byte_fallback_tokenizer()
    ids = {
        piece: int(tokenizer.token_to_id(piece) or 0)
        for piece in ("▁yes", "yes", "▁", "é", "<0xC3>", "<0xA8>", "<0x20>")
    }
    matcher = compiler_of(tokenizer, [2]).compile(StructuredOutputs(regex=" ?yes[éè]")).matcher()
    first = allowed(matcher, 265)
    assert {ids["▁yes"], ids["yes"], ids["▁"], ids["<0x20>"]} <= first
    assert not first & {0, 1, 2, ids["é"]}
    matcher.advance(ids["▁yes"])
    assert allowed(matcher, 265) == {ids["é"], ids["<0xC3>"]}
    matcher.advance(ids["<0xC3>"])
    assert ids["<0xA8>"] in allowed(matcher, 265)


def test_every_end_token_may_end_and_no_special_token_else() -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.add_special_tokens(["<end>", "<other>"])
    matcher = compiler_of(tokenizer, [EOS, 257], size=300).compile(StructuredOutputs(regex="a*")).matcher()
    (a,) = tokenizer.encode("a").ids
    assert allowed(matcher, 300) == {a, EOS, 257}, "nor a row of the logits that no token has"
    ignoring = compiler_of(tokenizer, [EOS, 257]).compile(StructuredOutputs(regex="a*")).matcher(ignore_eos=True)
    assert allowed(ignoring, 259) == {a}


def test_a_model_without_end_tokens() -> None:
    tokenizer = byte_level_tokenizer()
    grammar = compiler_of(tokenizer, []).compile(StructuredOutputs(choice=["a", "ab"]))
    a, b = tokenizer.encode("ab").ids
    matcher = grammar.matcher()
    assert walk(matcher, [a], 257) == [{a}, {b}]
    assert not matcher.complete()
    assert matcher.advance(b), "nothing can follow"
    assert matcher.complete()


def test_a_tokenizer_of_an_unknown_kind_is_refused_by_name() -> None:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(UnsupportedError, match="structured_outputs"):
        compiler_of(tokenizer, [1]).compile(StructuredOutputs(regex="a"))


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    return compiler_of(byte_level_tokenizer())


@pytest.mark.parametrize("text", ["a.b*c", "x|y", "(", "[a]{2}", "a\nb\t\\", "é猫^$", "a-b&c~d#e/f'\"", "  "])
def test_choices_are_taken_literally(compiler: GrammarCompiler, text: str) -> None:
    tokenizer = byte_level_tokenizer()
    matcher = compiler.compile(StructuredOutputs(choice=[text, "other"])).matcher()
    ids = tokenizer.encode(text).ids
    walk(matcher, ids[:-1], 257)
    assert matcher.advance(ids[-1])


def test_masks_behind_a_draft_leave_the_matcher_where_it_is(compiler: GrammarCompiler) -> None:
    tokenizer = byte_level_tokenizer()
    a, b, c = tokenizer.encode("abc").ids
    matcher = compiler.compile(StructuredOutputs(regex="a(b|c)a")).matcher()
    assert [matcher.accepted(draft) for draft in ([a, b, a], [a, a], [b], [], [a, c, a, EOS], [EOS])] == [
        3,
        1,
        0,
        0,
        3,
        0,
    ]
    mask = np.full((4, matcher.grammar.words), -1, dtype=np.int32)
    matcher.fill(mask, [a, b, a])
    rows = np.unpackbits(mask.view(np.uint8), axis=1, bitorder="little", count=257)
    assert [set(np.flatnonzero(row).tolist()) for row in rows] == [{a}, {b, c}, {a}, {EOS}]
    matcher.fill(mask[:3], [a, a])
    assert not mask[2].any(), "behind a token that is not allowed nothing is"
    assert allowed(matcher, 257) == {a}
    assert not matcher.advance(a)
    assert allowed(matcher, 257) == {b, c}


BAD: list[tuple[StructuredOutputs, str, str]] = [
    (StructuredOutputs(json={"type": "integer", "minimum": 5, "maximum": 3}), "json", "Unsatisfiable"),
    (StructuredOutputs(json={"allOf": [{"type": "string"}, {"type": "null"}]}), "json", "Unsatisfiable"),
    (StructuredOutputs(json=False), "json", "allows no value"),
    (StructuredOutputs(json={"not": {}}), "json", "Unimplemented"),
    (StructuredOutputs(json={"type": "string", "format": "no such"}), "json", "Unknown format"),
    (StructuredOutputs(json={"$ref": "https://elsewhere/x"}), "json", "cannot be used"),
    (StructuredOutputs(json={"type": "no such"}), "json", "cannot be used"),
    (StructuredOutputs(json='{"items":' * 200 + "{}" + "}" * 200), "json", "recursion"),
    (StructuredOutputs(regex="(a"), "regex", "unclosed group"),
    (StructuredOutputs(regex="(?=a)b"), "regex", "look"),
    (StructuredOutputs(regex=r"[^\s\S]"), "regex", "allows no text"),
    (StructuredOutputs(grammar="start: missing"), "grammar", "unknown name"),
    (StructuredOutputs(grammar="no grammar"), "grammar", "cannot be used"),
    (StructuredOutputs(grammar="start: start"), "grammar", "allows no text"),
    (StructuredOutputs(grammar='{"grammars": []}'), "grammar", "Lark"),
    (StructuredOutputs(grammar="start: <no-such-token>"), "grammar", "cannot be used"),
]


@pytest.mark.parametrize(
    ("constraint", "kind", "reason"), BAD, ids=[f"{kind} {i}" for i, (_, kind, _) in enumerate(BAD)]
)
def test_what_cannot_be_used_is_refused_by_its_field(
    compiler: GrammarCompiler, constraint: StructuredOutputs, kind: str, reason: str
) -> None:
    with pytest.raises(InvalidRequestError, match=reason) as caught:
        compiler.compile(constraint)
    assert caught.value.field == f"sampling_params.structured_outputs.{kind}"
    assert len(caught.value.reason) < 500
    assert "\n" not in caught.value.reason


BOMBS = [
    StructuredOutputs(regex="((((a{1,100}){1,100}){1,100}){1,100}){1,100}"),
    StructuredOutputs(regex="(.*a){30}.{60}b"),
    StructuredOutputs(regex="(a|b)*a(a|b){5000}"),
    StructuredOutputs(regex="(x+x+)+y"),
    StructuredOutputs(regex=r"(\w{1,50}\s){1,2000}"),
    StructuredOutputs(regex="|".join("".join(parts) for parts in itertools.product("abcdefgh", repeat=5))[:130_000]),
    StructuredOutputs(json={"enum": [f"value {i}" for i in range(8000)]}),
    StructuredOutputs(
        json={"properties": {f"p{i}": {"type": "string", "pattern": f"^(.*x{i}){{3}}$"} for i in range(2000)}}
    ),
    StructuredOutputs(json={"type": "string", "minLength": 10**6, "maxLength": 10**7}),
    StructuredOutputs(json={"type": "array", "items": {"type": "integer"}, "minItems": 10**5, "maxItems": 10**6}),
    StructuredOutputs(
        json={"allOf": [{"anyOf": [{"type": "string", "pattern": f"{i}{j}"} for j in range(20)]} for i in range(20)]}
    ),
    StructuredOutputs(grammar='start: a a a a a a a a\na: b | b b | b b b\nb: "x" | "x" b | "x" a'),
    StructuredOutputs(grammar='start: "x" start start | "x"'),
]


@pytest.mark.parametrize("bomb", BOMBS, ids=[f"{bomb.kind} {i}" for i, bomb in enumerate(BOMBS)])
def test_bombs_end_by_a_limit(compiler: GrammarCompiler, bomb: StructuredOutputs) -> None:
    """Each either is refused, or its masks stay within llguidance's bounds; none hangs, or takes the memory."""
    try:
        matcher = compiler.compile(bomb).matcher()
    except InvalidRequestError:
        return
    for _ in range(60):
        tokens = allowed(matcher, 257)
        if not tokens or matcher.advance(min(tokens)):
            break
    assert matcher.native.is_error() or matcher.native.is_stopped() or allowed(matcher, 257)


def test_grammars_are_kept_by_tenant_and_in_bounds(compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = StructuredOutputs(regex="kept")
    grammar = compiler.compile(kept)
    assert compiler.compile(StructuredOutputs(regex="kept")) is grammar
    assert compiler.cached(kept) is grammar
    assert compiler.cached(StructuredOutputs(choice=["kept"])) is None
    assert compiler.cached(kept, "tenant") is None, "what another tenant has compiled must not be felt"
    monkeypatch.setattr(compiling, "MAX_CACHED", 3)
    for number in range(5):
        compiler.cached(kept)
        compiler.compile(StructuredOutputs(regex=f"other {number}"))
    assert compiler.num_cached == 3
    assert compiler.cached(kept) is grammar, "the last used stay"
    monkeypatch.setattr(compiling, "MAX_CACHED_BYTES", 18)
    compiler.compile(StructuredOutputs(regex="x" * 15))
    assert compiler.cached(kept) is None
    grammar.forget()  # no longer there, so nothing happens
    found = compiler.compile(kept)
    found.forget()
    assert compiler.cached(kept) is None


def test_white_space_in_json_is_bounded(compiler: GrammarCompiler) -> None:
    tokenizer = byte_level_tokenizer()
    space, newline = tokenizer.encode(" ").ids[0], tokenizer.encode("\n").ids[0]
    matcher = compiler.compile(StructuredOutputs(json={"type": "array"})).matcher()
    matcher.advance(tokenizer.encode("[").ids[0])
    tokens = allowed(matcher, 257)
    assert {space, newline} <= tokens
    matcher.advance(newline)
    for _ in range(32):
        matcher.advance(space)
    assert not {space, newline} & allowed(matcher, 257)
    own = StructuredOutputs(json={"type": "array", "x-guidance": {"whitespace_flexible": False}})
    matcher = compiler.compile(own).matcher()
    matcher.advance(tokenizer.encode("[").ids[0])
    assert not {space, newline} & allowed(matcher, 257)


def test_the_forms_of_a_schema() -> None:
    schema = {"type": "object", "properties": {"é": {"const": 1}}}
    text = StructuredOutputs(json=schema).json
    assert isinstance(text, str)
    assert json.loads(text) == schema
    assert StructuredOutputs(json=True).json == "true"
    assert StructuredOutputs.of({"json": text}) == StructuredOutputs(json=schema)


def test_time_is_not_spent_twice(compiler: GrammarCompiler) -> None:
    """The vocabulary is made once, however many constraints come."""
    made = []

    def load() -> Vocabulary:
        made.append(time.monotonic())
        return Vocabulary(byte_level_tokenizer().to_str(), 257, [EOS])

    lazy = GrammarCompiler(load)
    assert made == []
    lazy.compile(StructuredOutputs(regex="a"))
    lazy.compile(StructuredOutputs(regex="b"))
    assert len(made) == 1
