"""Chat templates: messages to the prompt text that the model was trained on."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError
from jinja2.exceptions import SecurityError, UndefinedError

from lepton_engine.errors import InvalidRequestError
from lepton_engine.text.sandbox import Budget, TemplateEnvironment, TemplateRejection, use_budget
from lepton_engine.text.template_growth import TemplateBudgetError

_RESERVED = frozenset({"messages", "tools", "add_generation_prompt", "continue_final_message", "chat_template"})
_REASONING = ("reasoning_content", "thinking", "reasoning")
_TAG = "CONTINUE_FINAL_MESSAGE_TAG "
_MAX_DEPTH = 64


class ChatTemplate:
    """The chat templates of one checkpoint, by name, and the special tokens that they may print.

    Renders as `transformers.PreTrainedTokenizerBase.apply_chat_template` does. A template is compiled at its first use.

    Attributes:
        templates: Jinja source by name; a lone template is called "default".
        special_tokens: texts such as bos_token, visible to the template.
    """

    def __init__(self, templates: str | Mapping[str, str], special_tokens: Mapping[str, str] | None = None) -> None:
        self.templates = {"default": templates} if isinstance(templates, str) else dict(templates)
        self.special_tokens = dict(special_tokens or {})

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        name: str | None = None,
        **template_args: Any,
    ) -> str:
        """Render a conversation to text.

        Args:
            messages: each with a role and content (a text, or a list of content parts) as its template expects.
            tools: JSON schemas of functions; prefers the template named "tool_use" where there is one.
            add_generation_prompt: end with the header that opens the assistant's turn.
            continue_final_message: end inside the final message, so that the model goes on writing it.
            name: which named template; None chooses "tool_use" or "default".
            template_args: further variables, such as enable_thinking=False.

        Raises:
            InvalidRequestError: messages that the template rejects, or a template that fails, leaves its sandbox or
                works without bound; names the field at fault.
        """
        source = self._choose(name, tools is not None)
        if continue_final_message and add_generation_prompt:
            raise InvalidRequestError(
                "continue_final_message", "True excludes add_generation_prompt=True: the final message is continued"
            )
        if reserved := _RESERVED & template_args.keys():
            raise InvalidRequestError("template_args", f"{sorted(reserved)} are set by the engine")
        chat = _conversation(messages)
        final = _mark_final(chat[-1], source) if continue_final_message else None
        variables = {
            **self.special_tokens,
            **_plain(template_args, "template_args"),
            "messages": chat,
            "tools": None if tools is None else _tools(tools),
            "documents": _plain(template_args.get("documents"), "template_args"),
            "add_generation_prompt": add_generation_prompt,
        }
        text = _render(source, variables)
        return text if final is None else _cut(text, final)

    def _choose(self, name: str | None, with_tools: bool) -> str:
        if name is None:
            name = "tool_use" if with_tools and "tool_use" in self.templates else "default"
        if name not in self.templates:
            known = ", ".join(sorted(self.templates)) or "none"
            raise InvalidRequestError(
                "chat_template", f"the model has no chat template named {name!r}; it has: {known}"
            )
        return self.templates[name]


@functools.lru_cache(maxsize=1)
def _environment() -> TemplateEnvironment:
    return TemplateEnvironment()


@functools.lru_cache(maxsize=64)
def _compile(source: str) -> Template:
    return _environment().from_string(source)


def _render(source: str, variables: Mapping[str, Any]) -> str:
    use_budget(Budget())
    try:
        return _compile(source).render(variables)
    except TemplateRejection as error:
        raise InvalidRequestError("messages", f"the chat template rejects them: {error.message}") from error
    except (SecurityError, TemplateBudgetError, OverflowError) as error:
        raise InvalidRequestError("chat_template", f"the template was stopped: {error}") from error
    except TemplateSyntaxError as error:
        raise InvalidRequestError("chat_template", f"line {error.lineno}: {error.message}") from error
    except RecursionError as error:
        raise InvalidRequestError("chat_template", "the template was stopped: it nests or recurses too deep") from error
    except MemoryError as error:
        raise InvalidRequestError("chat_template", "the template was stopped: it is out of memory") from error
    except UndefinedError as error:
        raise InvalidRequestError("messages", f"the chat template misses something in them: {error.message}") from error
    except TemplateError as error:
        raise InvalidRequestError("chat_template", f"the template failed: {error.message}") from error
    except Exception as error:  # whatever a template's expressions raise on data of an unexpected kind
        reason = f"the chat template cannot render them: {type(error).__name__}: {error}"
        raise InvalidRequestError("messages", reason) from error


def _conversation(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Plain copies of the messages, without fields that are None, reasoning under each name that templates read."""
    if isinstance(messages, str) or not isinstance(messages, Sequence):
        raise InvalidRequestError("messages", f"{type(messages).__name__} is not a list of messages")
    if not messages:
        raise InvalidRequestError("messages", "is empty: at least one message is needed")
    chat = []
    for index, message in enumerate(messages):
        field = f"messages[{index}]"
        if not isinstance(message, Mapping):
            raise InvalidRequestError(field, f"{type(message).__name__} is not a message with a role and content")
        if not isinstance(message.get("role"), str):
            raise InvalidRequestError(f"{field}.role", f"{message.get('role')!r} is not a text")
        plain = {key: value for key, value in _plain(message, field).items() if value is not None}
        reasoning = next((plain[key] for key in _REASONING if key in plain), None)
        if reasoning is not None:
            plain = {"thinking": reasoning, **plain, "reasoning_content": reasoning}
        chat.append(plain)
    return chat


def _tools(tools: Sequence[Mapping[str, Any]]) -> list[Any]:
    if isinstance(tools, str) or not isinstance(tools, Sequence):
        raise InvalidRequestError("tools", f"{type(tools).__name__} is not a list of tool schemas")
    for index, tool in enumerate(tools):
        if not isinstance(tool, Mapping):
            raise InvalidRequestError(f"tools[{index}]", f"{type(tool).__name__} is not a JSON schema")
    return [_plain(tool, f"tools[{index}]") for index, tool in enumerate(tools)]


def _plain(value: Any, field: str, depth: int = 0) -> Any:
    """A copy of JSON-like data; anything else would bring methods into the sandbox, so it is refused."""
    if depth > _MAX_DEPTH:
        raise InvalidRequestError(field, f"is nested more than {_MAX_DEPTH} levels deep")
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {_plain(key, field, depth + 1): _plain(item, field, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, field, depth + 1) for item in value]
    raise InvalidRequestError(field, f"{type(value).__name__} is not JSON data (text, number, bool, list or mapping)")


def _mark_final(message: dict[str, Any], source: str) -> str:
    """Put the cut mark behind the final message's text, which is returned."""
    content = message.get("content")
    if "content" in source:
        if isinstance(content, str):
            message["content"] = content + _TAG
            return content
        for part in reversed(content if isinstance(content, list) else []):
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                text: str = part["text"]
                part["text"] = text + _TAG
                return text
    raise InvalidRequestError("continue_final_message", "the final message has no text content to continue")


def _cut(text: str, final: str) -> str:
    position = text.rfind(_TAG.strip())
    if position < 0 or final.strip() not in text:
        raise InvalidRequestError("continue_final_message", "the chat template does not print the final message whole")
    if text.startswith(_TAG, position):
        return text[:position]
    return text[:position].rstrip()  # the template trimmed the message, its trailing space too
