"""Which format a template writes, what the engine is asked for, and that the grammars hold outputs to it."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from lepton.v1.chat_pb2 import ChatMessage, ChatPrompt, ContentPart, Role, Tool, ToolChoice
from lepton_engine.outputs import CompletionOutput
from lepton_engine.sampling_params import SamplingParams
from lepton_service.errors import InvalidFieldError, UnsupportedFieldError
from lepton_service.tools.calls import ToolCalls
from lepton_service.tools.choose import knows_tools, tool_format
from lepton_service.tools.fallback import without_tools
from lepton_service.tools.plan import ToolPlan, tool_plan
from tests.service.conftest import FakeTokenizer

USER = ChatMessage(role=Role.ROLE_USER, content=[ContentPart(text="hi")])
SCHEMA = '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}'
WEATHER = Tool(name="weather", parameters_json_schema=SCHEMA)
NOW = Tool(name="now")
REQUIRED = ToolChoice(mode=ToolChoice.MODE_REQUIRED)
BYTES = LLTokenizer("byte")


class Templated(FakeTokenizer):
    """With a template that can be read, and perhaps a special token."""

    def __init__(self, template: str, special: str | None = None) -> None:
        self.chat_template = SimpleNamespace(templates={"default": template})
        self.special = special

    def token_to_id(self, token: str) -> int | None:
        return 255 if token == self.special else None

    def decode(self, token_ids: Any, skip_special_tokens: bool = True) -> str:
        return "" if skip_special_tokens else "".join(self.special or "" for token in token_ids if token == 255)


HERMES = Templated("{{ tools }}<tool_call>")
LLAMA = Templated('{{ tools }}"parameters"')
MISTRAL = Templated("{{ tools }}[TOOL_CALLS]")


def plan(tokenizer: FakeTokenizer = HERMES, **fields: Any) -> ToolPlan | None:
    return tool_plan(ChatPrompt(messages=[USER], **{"tools": [WEATHER, NOW], **fields}), tokenizer)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{{ tools }}<tool_call>", "hermes"),
        ("{{ messages }}", "hermes"),
        ("{{ tools }}[TOOL_CALLS]", "mistral"),
        ("{{ tools }}<|python_tag|>", "llama"),
        ('{{ tools }}{"name": n, "parameters": p}', "llama"),
        ("{{ tools }}[TOOL_CALLS][ARGS]", None),
        ("{{ tools }}", None),
    ],
)
def test_the_format_is_the_template_s(template: str, name: str | None) -> None:
    found = tool_format(Templated(template))
    assert (None if found is None else found.name) == name
    assert knows_tools(Templated(template)) == ("tools" in template)


def accepts(made: ToolPlan | None, text: str) -> bool:
    """Whether the plan's grammar lets an output be this text."""
    assert made is not None
    assert made.constraint is not None
    matcher = LLMatcher(BYTES, str(made.constraint.grammar), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    return matcher.consume_tokens(list(text.encode())) and matcher.is_accepting()


HERMES_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
LLAMA_CALL = '{"name": "weather", "parameters": {"city": "Rome"}}'
MISTRAL_CALL = '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Rome"}}]'
NOW_CALL = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
TABLE: list[tuple[FakeTokenizer, Any, list[str], list[str]]] = [
    (
        HERMES,
        REQUIRED,
        [HERMES_CALL, NOW_CALL, f"{HERMES_CALL}\n{NOW_CALL}"],
        ["", "text", f"text{HERMES_CALL}", HERMES_CALL.replace('"Rome"', "1"), NOW_CALL.replace("{}}", '{"a": 1}}')],
    ),
    (HERMES, ToolChoice(name="now"), [NOW_CALL], [HERMES_CALL, f"{NOW_CALL}\n{NOW_CALL}"]),
    (
        HERMES,
        None,
        ["", "any <tool> text\n", HERMES_CALL, f"so {HERMES_CALL}\nand {NOW_CALL} end"],
        [HERMES_CALL.replace('"Rome"', "1"), HERMES_CALL.replace("weather", "other"), HERMES_CALL[:-1]],
    ),
    (LLAMA, REQUIRED, [LLAMA_CALL, f"{LLAMA_CALL}; {LLAMA_CALL}"], ["", f" {LLAMA_CALL}"]),
    (MISTRAL, REQUIRED, [MISTRAL_CALL], ["", "[TOOL_CALLS][]"]),
    (MISTRAL, None, ["", "text", f"so {MISTRAL_CALL}"], [MISTRAL_CALL.replace("weather", "x"), f"{MISTRAL_CALL} more"]),
]


@pytest.mark.parametrize(("tokenizer", "choice", "good", "bad"), TABLE)
def test_outputs_are_held_to_the_schemas(
    tokenizer: FakeTokenizer, choice: Any, good: list[str], bad: list[str]
) -> None:
    made = plan(tokenizer, tool_choice=choice)
    assert {text: accepts(made, text) for text in good} == dict.fromkeys(good, True)
    assert {text: accepts(made, text) for text in bad} == dict.fromkeys(bad, False)


def test_what_may_be_any_text_is_held_to_nothing() -> None:
    made = plan(LLAMA)
    assert made is not None
    assert made.constraint is None
    assert plan(tool_choice=ToolChoice(mode=ToolChoice.MODE_NONE)) is None
    assert plan(tools=[]) is None


def test_a_marker_that_is_a_special_token() -> None:
    made = plan(Templated("{{ tools }}[TOOL_CALLS]", special="[TOOL_CALLS]"), tool_choice=REQUIRED)
    assert made is not None
    assert made.constraint is not None
    assert "<[255]>" in str(made.constraint.grammar)
    assert not made.params(SamplingParams()).skip_special_tokens, "the parser needs to see it"
    output = CompletionOutput(0, text=f"{MISTRAL_CALL}[TOOL_CALLS]x", finish_reason="stop")
    calls = ToolCalls(made).take_whole(output)
    assert [(call.name, json.loads(call.arguments_json)) for call in calls] == [("weather", {"city": "Rome"})]
    assert len(calls[0].id) == 9
    assert (output.text, output.finish_reason) == ("x", "tool_calls")


def test_calls_are_streamed_name_first() -> None:
    calls = ToolCalls(plan())
    deltas, texts = [], []
    text = f"Well: {HERMES_CALL}\n{NOW_CALL}"
    for number, character in enumerate(text, 1):
        output = CompletionOutput(0, text=character, finish_reason="stop" if number == len(text) else None)
        deltas += calls.take(output)
        texts.append(output.text)
    assert "".join(texts) == "Well: "
    assert output.finish_reason == "tool_calls"
    assert [(delta.index, delta.name) for delta in deltas if delta.name] == [(0, "weather"), (1, "now")]
    assert all(bool(delta.id) == bool(delta.name) for delta in deltas)
    assert len({delta.id for delta in deltas if delta.id}) == 2
    arguments = {i: "".join(delta.arguments_json for delta in deltas if delta.index == i) for i in (0, 1)}
    assert arguments == {0: '{"city": "Rome"}', 1: "{}"}


def test_an_output_that_was_cut_off_has_not_called() -> None:
    output = CompletionOutput(0, text=HERMES_CALL[:60], finish_reason="length")
    (call,) = ToolCalls(plan()).take_whole(output)
    assert (call.name, output.finish_reason) == ("weather", "length")
    output = CompletionOutput(1, text="no call", finish_reason="stop")
    assert ToolCalls(plan()).take_whole(output) == []
    assert (output.text, output.finish_reason) == ("no call", "stop")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tools": [WEATHER, WEATHER]}, "chat.tools[1].name"),
        ({"tools": [], "tool_choice": REQUIRED}, "chat.tool_choice"),
        ({"tool_choice": ToolChoice(name="x")}, "chat.tool_choice.name"),
        (
            {"tools": [Tool(name="f", parameters_json_schema='{"type": "string"}')]},
            "chat.tools[0].parameters_json_schema",
        ),
        ({"tools": [Tool(name="f", parameters_json_schema='{"a": "%s"}' % ("x" * 140_000))]}, "chat.tools"),
    ],
)
def test_bad_tools(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        plan(**fields)
    assert caught.value.field == field


def test_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedFieldError, match=r"chat\.tools"):
        plan(Templated("{{ tools }}"))


def test_templates_without_tools_get_them_as_text() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "now", "arguments": {"zone": "é"}}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "", "tool_calls": [call, call]},
        {"role": "tool", "content": "1", "tool_call_id": "c"},
        {"role": "tool", "content": "2", "tool_call_id": "c"},
    ]
    made = without_tools(messages, [{"type": "function", "function": {"name": "now"}}])
    assert [message["role"] for message in made] == ["system", "user", "assistant", "user"]
    assert made[0]["content"].startswith("Be kind.\n\n")
    assert '{"type": "function", "function": {"name": "now"}}' in made[0]["content"]
    text = '<tool_call>\n{"name": "now", "arguments": {"zone": "é"}}\n</tool_call>'
    assert made[2] == {"role": "assistant", "content": f"{text}\n{text}"}
    assert made[3]["content"].split("\n")[1::3] == ["1", "2"]
    assert [message["role"] for message in without_tools(messages[1:2], [{"a": 1}])] == ["system", "user"]
    assert without_tools(messages[1:2], []) == messages[1:2]
