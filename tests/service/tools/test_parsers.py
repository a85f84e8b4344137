"""Calls in the output of a model: what is a call, what only looks like one, and that cuts do not matter."""

import json
import random

import pytest

from lepton_service.tools.formats import ToolFormat
from lepton_service.tools.hermes import HermesFormat
from lepton_service.tools.llama import LlamaFormat
from lepton_service.tools.mistral import MistralFormat
from lepton_service.tools.parsing import SpecialTokens
from lepton_service.tools.pieces import Arguments, CallBegins, CallEnds, Piece, Text, joined

NAMES = ["look", "get.it-2"]
FORMATS: dict[str, ToolFormat] = {"hermes": HermesFormat(), "llama": LlamaFormat(), "mistral": MistralFormat()}


def parsed(format: str, *texts: str) -> list[Piece]:
    parser = FORMATS[format].parser(NAMES)
    pieces = [piece for text in texts for piece in parser.push(text)]
    return joined([*pieces, *parser.finish()])


def call(name: str = "look", arguments: str = "{}") -> list[Piece]:
    return [CallBegins(name), Arguments(arguments), CallEnds()]


LOOK = '{"name": "look", "arguments": {"at": "a}\\"{", "n": [1, {"m": 2}]}}'
ARGUMENTS = '{"at": "a}\\"{", "n": [1, {"m": 2}]}'
CASES: list[tuple[str, str, list[Piece]]] = [
    ("hermes", "plain text", [Text("plain text")]),
    ("hermes", f"<tool_call>\n{LOOK}\n</tool_call>", call(arguments=ARGUMENTS)),
    ("hermes", f"I look.\n<tool_call>{LOOK}</tool_call> \n", [Text("I look.\n"), *call(arguments=ARGUMENTS)]),
    ("hermes", f"<tool_call>{LOOK}</tool_call>\n<tool_call>{LOOK}</tool_call>", call(arguments=ARGUMENTS) * 2),
    ("hermes", f"<tool_call>{LOOK}</tool_call>\n done", [*call(arguments=ARGUMENTS), Text("\n done")]),
    ("hermes", f"<tool_call>{LOOK}</tool_call>\n <b", [*call(arguments=ARGUMENTS), Text("\n <b")]),
    ("hermes", f"<tool_call>{LOOK}<tool_call>{LOOK}", call(arguments=ARGUMENTS) * 2),
    ("hermes", f"<tool_call>{LOOK} and", [*call(arguments=ARGUMENTS), Text("and")]),
    ("hermes", f"<tool_call>{LOOK}</tool", call(arguments=ARGUMENTS)),
    ("hermes", '<tool_call>{"arguments": {"a": 1}, "name": "look"}</tool_call>', call(arguments='{"a": 1}')),
    ("hermes", '<tool_call>{"id": [1, "}"], "x": -1.5e3,"name":"get.it-2"}</tool_call>', call("get.it-2")),
    ("hermes", '<tool_call>{"name": "\\u006cook", "parameters": { }}</tool_call>', call(arguments="{ }")),
    # What only looks like a call.
    ("hermes", "a <tool_cal", [Text("a <tool_cal")]),
    ("hermes", "a <tool_call> b </tool_call>", [Text("a <tool_call> b </tool_call>")]),
    (
        "hermes",
        '<tool_call>{"name": "other", "arguments": {}}',
        [Text('<tool_call>{"name": "other", "arguments": {}}')],
    ),
    ("hermes", '<tool_call>{"name": "look", "arguments": 1}', [Text('<tool_call>{"name": "look", "arguments": 1}')]),
    ("hermes", '<tool_call>{"name": "look"', [Text('<tool_call>{"name": "look"')]),
    ("hermes", '<tool_call>{"arguments": {}}', [Text('<tool_call>{"arguments": {}}')]),
    ("hermes", '<tool_call>{"name": 5}', [Text('<tool_call>{"name": 5}')]),
    ("hermes", '<tool_call>{"name": "look", "name": "look"}', [Text('<tool_call>{"name": "look", "name": "look"}')]),
    ("hermes", f"<tool_call><tool_call>{LOOK}", [Text("<tool_call>"), *call(arguments=ARGUMENTS)]),
    ("hermes", "<<tool_call", [Text("<<tool_call")]),
    # Cut off within its arguments: a call that is not complete.
    ("hermes", '<tool_call>{"name": "look", "arguments": {"a": "b', [CallBegins("look"), Arguments('{"a": "b')]),
    ("llama", "plain text", [Text("plain text")]),
    ("llama", '{"name": "look", "parameters": {"a": 1}}', call(arguments='{"a": 1}')),
    ("llama", ' <|python_tag|>{"name": "look", "parameters": {"a": 1}}', call(arguments='{"a": 1}')),
    (
        "llama",
        '{"name": "look", "parameters": {}}; {"name": "get.it-2", "parameters": {}} ;',
        call() + call("get.it-2"),
    ),
    ("llama", '{"name": "look", "parameters": {}} so', [*call(), Text(" so")]),
    ("llama", '{"name": "look", "parameters": {}}; {"a": 1}', [*call(), Text('; {"a": 1}')]),
    ("llama", '{"city": "Rome", "name": "Ann"}', [Text('{"city": "Rome", "name": "Ann"}')]),
    ("llama", "{", [Text("{")]),
    ("llama", "  ", [Text("  ")]),
    ("llama", '<|python_tag|>print("x")', [Text('<|python_tag|>print("x")')]),
    ("llama", 'See {"name": "look", "parameters": {}}', [Text('See {"name": "look", "parameters": {}}')]),
    ("mistral", "plain [TOOL", [Text("plain [TOOL")]),
    ("mistral", f"[TOOL_CALLS] [{LOOK}]", call(arguments=ARGUMENTS)),
    ("mistral", f"so[TOOL_CALLS][{LOOK}, {LOOK} ]", [Text("so"), *(call(arguments=ARGUMENTS) * 2)]),
    ("mistral", f"[TOOL_CALLS][{LOOK}] then", [*call(arguments=ARGUMENTS), Text(" then")]),
    ("mistral", f"[TOOL_CALLS]{LOOK}", [Text(f"[TOOL_CALLS]{LOOK}")]),
    ("mistral", '[TOOL_CALLS][{"name": "other"}]', [Text('[TOOL_CALLS][{"name": "other"}]')]),
]


@pytest.mark.parametrize(("format", "text", "pieces"), CASES, ids=[f"{name}: {text[:60]}" for name, text, _ in CASES])
def test_calls_and_what_looks_like_them(format: str, text: str, pieces: list[Piece]) -> None:
    assert parsed(format, text) == pieces
    assert parsed(format, *text) == pieces, "a character at a time"


FRAGMENTS = [
    *(f"<tool_call>{LOOK}", f"[TOOL_CALLS][{LOOK}", f"{LOOK}</tool_call>", '{"name": "look", "parameters": {}}'),
    *("<tool_call>", "</tool_call>", "<tool_", "call>", "[TOOL_CALLS]", "[TOOL", "<|python_tag|>", "<|py", "; ", ";"),
    *(
        '{"name": "look", "arguments": ',
        '{"name": "look", "parameters": ',
        '"name"',
        '"arguments"',
        '"other"',
        ": ",
        ",",
    ),
    *("{", "}", "[", "]", '"', "\\", "\n", " ", "1", "-2.5", "true", "a", "é", "猫", '{"a": [1, "}"]}', "}}", LOOK),
]


@pytest.mark.parametrize("format", FORMATS)
def test_the_result_does_not_depend_on_the_cuts(format: str) -> None:
    """Random texts of the formats' own fragments, cut at random; no text is lost but what belongs to calls."""
    generator = random.Random(format)
    begun = 0
    for _ in range(3000):
        text = "".join(generator.choices(FRAGMENTS, k=generator.randrange(1, 14)))
        whole = parsed(format, text)
        cuts = sorted(generator.randrange(len(text) + 1) for _ in range(generator.randrange(6)))
        parts = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert parsed(format, *parts) == whole, (text, parts)
        begun += sum(isinstance(piece, CallBegins) for piece in whole)
        if not any(isinstance(piece, CallBegins) for piece in whole):
            assert "".join(piece.text for piece in whole if isinstance(piece, Text)) == text, "nothing is swallowed"
        shown = "".join(piece.text for piece in whole if isinstance(piece, Text | Arguments) and piece.text != "{}")
        assert is_subsequence(shown, text)
    assert begun > 20, "the texts must reach calls"


def is_subsequence(part: str, whole: str) -> bool:
    rest = iter(whole)
    return all(character in rest for character in part)


@pytest.mark.parametrize("format", FORMATS)
def test_calls_survive_a_round(format: str) -> None:
    """Calls as the templates write them come back as they were."""
    generator = random.Random(7)
    for _ in range(200):
        calls = [(generator.choice(NAMES), value(generator, 3)) for _ in range(generator.randrange(1, 4))]
        key = "parameters" if format == "llama" else "arguments"
        bodies = [f'{{"name": "{name}", "{key}": {arguments}}}' for name, arguments in calls]
        text = {
            "hermes": "\n".join(f"<tool_call>\n{body}\n</tool_call>" for body in bodies),
            "llama": "; ".join(bodies),
            "mistral": f"[TOOL_CALLS][{', '.join(bodies)}]",
        }[format]
        assert parsed(format, text) == [piece for name, arguments in calls for piece in call(name, arguments)]


def value(generator: random.Random, depth: int) -> str:
    """An object as JSON text."""

    def any_value(depth: int) -> object:
        kind = generator.randrange(6 if depth else 4)
        if kind == 4:
            return [any_value(depth - 1) for _ in range(generator.randrange(3))]
        if kind == 5:
            return {word(): any_value(depth - 1) for _ in range(generator.randrange(3))}
        return [generator.random(), word(), None, generator.choice([True, False])][kind]

    def word() -> str:
        return "".join(generator.choices('ab"\\{}[]</>\n é猫', k=generator.randrange(5)))

    return json.dumps(
        {word(): any_value(depth) for _ in range(generator.randrange(3))}, ensure_ascii=generator.random() < 0.5
    )


def test_special_tokens_stay_out_of_the_text() -> None:
    text = "a<s>b</s><s</s>[x]c<"
    for cut in range(len(text)):
        filter_ = SpecialTokens({"<s>", "</s>", "[x]"})
        assert filter_.push(text[:cut]) + filter_.push(text[cut:]) + filter_.finish() == "ab<sc<"
