"""Rendering against transformers', on templates of our own in the styles of the families that are served."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from transformers import PreTrainedTokenizerFast

from lepton_engine.errors import InvalidRequestError
from lepton_engine.text.chat_template import ChatTemplate
from lepton_engine.text.tokenizer import Tokenizer

LLAMA = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|head|>system<|end_head|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Functions:\\n" }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|head|>' + message['role'] + '<|end_head|>\\n\\n'+ message['content'] | trim + '<|eot|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one tool call at once") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|head|>assistant<|end_head|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson }}{{- "}<|eot|>" }}
    {%- else %}
        {{- "<|head|>tool<|end_head|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|head|>assistant<|end_head|>\\n\\n' }}
{%- endif %}
"""

QWEN = """{%- macro say(role, text) %}{{ '<|start|>' + role + '\\n' + text + '<|stop|>\\n' }}{% endmacro %}
{%- set ns = namespace(last=-1, multi=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if message.role == "user" and message.content is string and not message.content.startswith('<tool>') %}
        {%- set ns.last = index %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set ns.content = '' %}
        {%- for part in message.content %}
            {%- if part.type != 'text' %}{% continue %}{% endif %}
            {%- set ns.content = ns.content + part.text %}
        {%- endfor %}
        {%- set content = ns.content %}
    {%- endif %}
    {%- if message.role == "assistant" %}
        {%- set thought = message.reasoning_content if message.reasoning_content is defined else '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and thought %}
            {%- generation %}
                {{- say(message.role, '<think>\\n' ~ thought ~ '\\n</think>\\n\\n' ~ content) }}
            {%- endgeneration %}
        {%- else %}
            {{- say(message.role, content) }}
        {%- endif %}
    {%- else %}
        {{- say(message.role, content) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

MISTRAL = """{%- if messages[0]["role"] == "system" -%}
    {%- set system = messages[0]["content"] -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set rest = messages -%}
{%- endif -%}
{{- bos_token -}}
{%- for message in rest -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{- raise_exception('roles must alternate user/assistant/user/assistant/...') -}}
    {%- endif -%}
    {%- if message["role"] == "user" -%}
        {%- if loop.last and system is defined -%}
            {{- "[I] " + system + "\\n\\n" + message["content"] + "[/I]" -}}
        {%- else -%}
            {{- "[I] " + message["content"] + "[/I]" -}}
        {%- endif -%}
    {%- else -%}
        {{- " " + message["content"] + eos_token -}}
    {%- endif -%}
{%- endfor -%}"""

PLAIN = """
{% for message in messages %}
    {% if loop.first and message['role'] != 'system' %}
        {{ '<|' + 'system' + '|>\\n' + 'You are kind.' }}
    {% endif %}
{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token }}
{% endfor %}
{% if add_generation_prompt %}
<|assistant|>
{% endif %}
"""

TEMPLATES = {"llama": LLAMA, "qwen": QWEN, "mistral": MISTRAL, "plain": PLAIN}

Message = dict[str, Any]
CHATS: dict[str, list[Message]] = {
    "one": [{"role": "user", "content": "你好！<b> & 'quotes' "}],
    "system": [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hi\n"}],
    "turns": [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\n2"},
        {"role": "user", "content": "2+2?"},
    ],
    "reasoned": [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "reasoning_content": "easy", "content": "2", "tool_calls": None},
    ],
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "天气 <now>",
            "parameters": {"type": "object", "properties": {}},
        },
    }
]
CALLS: list[Message] = [
    {"role": "user", "content": "Weather in 北京?"},
    {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "北京", "days": 2}}}]},
    {"role": "tool", "content": {"sky": "clear", "wind": 3.5}},
]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Tokenizer, Any]]:
    """Our tokenizer and transformers', from one folder with the template."""

    def make(template: str) -> tuple[Tokenizer, Any]:
        folder = tmp_path_factory.mktemp("chat")
        backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"<s>": 0, "</s>": 1, "a": 2}, merges=[]))
        backend.save(str(folder / "tokenizer.json"))
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "chat_template": template,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        return Tokenizer.load(folder), PreTrainedTokenizerFast.from_pretrained(folder)

    return make


Both = Callable[[str], tuple[Tokenizer, Any]]


@pytest.mark.parametrize("style", TEMPLATES)
@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("prompt", [True, False])
def test_renders_as_transformers_does(both: Both, style: str, chat: str, prompt: bool) -> None:
    ours, theirs = both(TEMPLATES[style])
    expected = theirs.apply_chat_template(CHATS[chat], tokenize=False, add_generation_prompt=prompt)
    assert ours.apply_chat_template(CHATS[chat], add_generation_prompt=prompt) == expected


@pytest.mark.parametrize("tools", [TOOLS, None])
def test_tools_and_calls_render_as_in_transformers(both: Both, tools: Any) -> None:
    ours, theirs = both(LLAMA)
    expected = theirs.apply_chat_template(CALLS, tools=tools, tokenize=False, add_generation_prompt=True)
    assert ours.apply_chat_template(CALLS, tools=tools) == expected


def test_template_arguments_and_content_parts_render_as_in_transformers(both: Both) -> None:
    ours, theirs = both(QWEN)
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "look"}]}]
    for thinking in (True, False):
        expected = theirs.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )
        assert ours.apply_chat_template(chat, enable_thinking=thinking) == expected
        assert expected.endswith("</think>\n\n") != thinking


@pytest.mark.parametrize(
    ("style", "content"),
    [
        *((style, content) for style in TEMPLATES for content in ("The answer is", "The answer is  ")),
        ("qwen", [{"type": "text", "text": "It"}]),
    ],
)
def test_the_final_message_is_continued_as_in_transformers(both: Both, style: str, content: Any) -> None:
    ours, theirs = both(TEMPLATES[style])
    chat = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": content}]
    expected = theirs.apply_chat_template(chat, tokenize=False, continue_final_message=True)
    assert ours.apply_chat_template(chat, add_generation_prompt=False, continue_final_message=True) == expected
    assert chat[1]["content"] == content  # the caller's messages stay as they were


def test_today_can_be_told(both: Both) -> None:
    ours, theirs = both("{{ strftime_now('%Y') }}|{{ dict(a=1).a }}|{{ {'b': 2} | tojson }}")
    chat = [{"role": "user", "content": ""}]
    assert ours.apply_chat_template(chat) == theirs.apply_chat_template(chat, tokenize=False)


def test_named_templates() -> None:
    template = ChatTemplate({"default": "plain", "tool_use": "tools", "rag": "rag"})
    chat = [{"role": "user", "content": "x"}]
    assert template.render(chat) == "plain"
    assert template.render(chat, tools=TOOLS) == "tools"
    assert template.render(chat, name="rag") == "rag"
    with pytest.raises(InvalidRequestError, match=r"no chat template named 'other'; it has: default, rag, tool_use"):
        template.render(chat, name="other")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"tokenizer_config.json": {"chat_template": "config"}}, "config"),
        ({"tokenizer_config.json": {"chat_template": [{"name": "default", "template": "listed"}]}}, "listed"),
        ({"chat_template.json": {"chat_template": "own json"}}, "own json"),
        ({"chat_template.jinja": "own file", "tokenizer_config.json": {"chat_template": "config"}}, "own file"),
    ],
)
def test_where_templates_are_found(tmp_path: Path, files: dict[str, Any], expected: str) -> None:
    tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"a": 0}, merges=[])).save(str(tmp_path / "tokenizer.json"))
    for name, content in files.items():
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    assert Tokenizer.load(tmp_path).apply_chat_template([{"role": "user", "content": "x"}]) == expected


def test_additional_template_files(tmp_path: Path) -> None:
    tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"a": 0}, merges=[])).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text("default")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tools=TOOLS) == "tools"


def test_a_model_without_template_says_so(tmp_path: Path) -> None:
    tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"a": 0}, merges=[])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InvalidRequestError, match="chat_template: the model has no chat template"):
        Tokenizer.load(tmp_path).apply_chat_template([{"role": "user", "content": "x"}])


BAD_CALLS: list[tuple[str, dict[str, Any], str]] = [
    ("messages", {"messages": []}, "is empty"),
    ("messages", {"messages": "hi"}, "str is not a list"),
    ("messages[0]", {"messages": ["hi"]}, "str is not a message"),
    ("messages[1].role", {"messages": [{"role": "user", "content": "x"}, {"content": "x"}]}, "None is not a text"),
    ("messages[0]", {"messages": [{"role": "user", "content": object()}]}, "object is not JSON data"),
    ("tools", {"tools": {"name": "x"}}, "dict is not a list"),
    ("tools[0]", {"tools": [print]}, "not a JSON schema"),
    ("template_args", {"messages_": object()}, "object is not JSON data"),
    ("continue_final_message", {"continue_final_message": True}, "excludes add_generation_prompt"),
    (
        "continue_final_message",
        {"messages": [{"role": "user"}], "continue_final_message": True, "add_generation_prompt": False},
        "no text content",
    ),
    ("template_args", {"chat_template": "x"}, "set by the engine"),
]


@pytest.mark.parametrize(("field", "arguments", "reason"), BAD_CALLS)
def test_bad_calls_name_their_field(field: str, arguments: dict[str, Any], reason: str) -> None:
    call: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}]} | arguments
    with pytest.raises(InvalidRequestError, match=reason) as caught:
        ChatTemplate("{{ messages[0].content }}").render(call.pop("messages"), **call)
    assert caught.value.field == field


def test_what_the_template_rejects_or_misses_is_the_messages_fault() -> None:
    chat = [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]
    with pytest.raises(InvalidRequestError, match="roles must alternate") as caught:
        ChatTemplate(MISTRAL, {"bos_token": "<s>"}).render(chat)
    assert caught.value.field == "messages"
    for source in ("{{ messages[0].name.upper() }}", "{{ messages[0].content + 1 }}", "{{ messages[7].content }}"):
        with pytest.raises(InvalidRequestError) as caught:
            ChatTemplate(source).render(chat)
        assert caught.value.field == "messages"


def test_a_template_with_bad_syntax_names_the_line() -> None:
    with pytest.raises(InvalidRequestError, match=r"chat_template: line 2: "):
        ChatTemplate("ok\n{% if %}").render([{"role": "user", "content": "x"}])


def test_a_deeply_nested_message_is_refused() -> None:
    value: Any = "x"
    for _ in range(100):
        value = [value]
    with pytest.raises(InvalidRequestError, match="nested more than 64"):
        ChatTemplate("x").render([{"role": "user", "content": value}])
