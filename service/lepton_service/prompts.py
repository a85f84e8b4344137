"""Prompts to token ids: tokenises, renders chats, checks against the model. Long work leaves the event loop."""

import asyncio
from collections.abc import Callable, Sequence
from typing import ParamSpec, Protocol, TypeVar

from lepton.v1.chat_pb2 import ChatPrompt
from lepton.v1.tokens_pb2 import TokenIds
from lepton_engine.errors import InvalidRequestError
from lepton_service.converters import chat as chats
from lepton_service.converters.fields import proto_path
from lepton_service.engine_api import Tokenizer
from lepton_service.errors import ChatTemplateError, ContextLengthError, InvalidFieldError, NoChatTemplateError
from lepton_service.tools.choose import knows_tools
from lepton_service.tools.fallback import without_tools

INLINE_CHARACTERS = 16_384

P = ParamSpec("P")
T = TypeVar("T")


class HasPrompt(Protocol):
    """A request with the contract's prompt oneof: Generate, Complete and Score."""

    @property
    def text(self) -> str:
        """A prompt that is text."""

    @property
    def token_ids(self) -> TokenIds:
        """A prompt that is token ids."""

    @property
    def chat(self) -> ChatPrompt:
        """A prompt that is a conversation."""


async def off_loop(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs `work` at once, or in a thread when `size` characters would hold up the event loop."""
    if size <= INLINE_CHARACTERS:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


async def prompt_ids(
    request: HasPrompt, kind: str | None, add_special_tokens: bool | None, tokenizer: Tokenizer, generating: bool = True
) -> list[int]:
    """Token ids of a request's prompt.

    Args:
        kind: which of the oneof is set; None for none.
        add_special_tokens: the request's field, None where it is absent.
        generating: whether the prompt opens an assistant's turn by default.

    Raises:
        InvalidFieldError, UnsupportedFieldError, ChatTemplateError, NoChatTemplateError.
    """
    if kind is None:
        raise InvalidFieldError("prompt", "is not set: one of text, token_ids and chat is required")
    if kind != "text" and add_special_tokens is not None:
        raise InvalidFieldError("add_special_tokens", f"is set with a prompt of {kind}, allowed with text only")
    if kind == "token_ids":
        return list(request.token_ids.ids)
    if kind == "text":
        if not request.text:
            raise InvalidFieldError("text", "is empty, a prompt of at least one token is required")
        return await off_loop(
            len(request.text), tokenizer.encode, request.text, add_special_tokens=add_special_tokens is not False
        )
    _, ids = await render_chat(request.chat, tokenizer, opens_turn=generating)
    return ids


async def render_chat(chat: ChatPrompt, tokenizer: Tokenizer, opens_turn: bool = True) -> tuple[str, list[int]]:
    """The prompt text of a conversation and its token ids.

    Raises:
        InvalidFieldError, ChatTemplateError, NoChatTemplateError.
    """
    messages = chats.messages(chat)
    tools = chats.tools(chat)
    added, continued = chats.generation_prompt(chat, default=opens_turn)
    arguments = chats.template_arguments(chat)
    if tokenizer.chat_template is None:
        raise NoChatTemplateError("chat: this model has no chat template; send the prompt as text or token_ids")
    if not knows_tools(tokenizer):
        messages, tools = without_tools(messages, tools or ()), None

    def render() -> tuple[str, list[int]]:
        text = tokenizer.apply_chat_template(
            messages,
            tools=tools,
            add_generation_prompt=added,
            continue_final_message=continued,
            **arguments,
        )
        return text, tokenizer.encode(text, add_special_tokens=False)

    if clash := arguments.keys() & {"messages", "tools", "add_generation_prompt", "continue_final_message"}:
        raise InvalidFieldError("chat.template_arguments", f"{sorted(clash)} are set by the server")
    try:
        return await off_loop(chat.ByteSize(), render)
    except InvalidRequestError as error:
        field = proto_path(error.field)
        if field == "chat.template_arguments":
            raise InvalidFieldError(field, error.reason) from error
        raise ChatTemplateError(field, error.reason) from error


def path(kind: str) -> str:
    """The path of the field that holds a prompt of this kind."""
    return "token_ids.ids" if kind == "token_ids" else kind


def check_prompt(ids: Sequence[int], kind: str, vocabulary: int, room: int) -> None:
    """Checks token ids against the model.

    Args:
        kind: which of the oneof they came from.
        vocabulary: ids are below it.
        room: the most tokens that the prompt may have.

    Raises:
        InvalidFieldError: there are none, or one is outside the vocabulary.
        ContextLengthError: there are too many.
    """
    field = path(kind)
    if not ids:
        raise InvalidFieldError(field, "gives no tokens, a prompt of at least one token is required")
    if len(ids) > room:
        raise ContextLengthError(field, f"gives {len(ids)} tokens, at most {room} fit the model's context")
    if max(ids) >= vocabulary:
        index = next(index for index, token in enumerate(ids) if token >= vocabulary)
        allowed = f"allowed is 0 to {vocabulary - 1}"
        place = f"{field}[{index}]" if kind == "token_ids" else field
        raise InvalidFieldError(place, f"{ids[index]} is outside the model's vocabulary, {allowed}")
