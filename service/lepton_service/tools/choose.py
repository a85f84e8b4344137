"""Which format a model writes its calls in: the one that its chat template does."""

from lepton_service.engine_api import Tokenizer
from lepton_service.tools.formats import ToolFormat
from lepton_service.tools.hermes import HermesFormat
from lepton_service.tools.llama import LlamaFormat
from lepton_service.tools.mistral import MARK, MistralFormat


def template_source(tokenizer: Tokenizer) -> str | None:
    """The template that renders conversations with tools; None where it cannot be read."""
    templates = getattr(tokenizer.chat_template, "templates", None)
    if not isinstance(templates, dict):
        return None
    found = templates.get("tool_use", templates.get("default"))
    return found if isinstance(found, str) else None


def knows_tools(tokenizer: Tokenizer) -> bool:
    """Whether the template shows tools to the model. One that cannot be read is taken to."""
    source = template_source(tokenizer)
    return source is None or "tools" in source


def tool_format(tokenizer: Tokenizer) -> ToolFormat | None:
    """The format; Hermes' where the template shows no tools, and the server does. None for one that is not known."""
    source = template_source(tokenizer)
    if source is None or "tools" not in source or "<tool_call>" in source:
        return HermesFormat()
    if MARK in source:
        # Newer ones write `[TOOL_CALLS]name[ARGS]{...}`, which no parser here reads.
        return None if "[ARGS]" in source else MistralFormat()
    if "<|python_tag|>" in source or '"parameters"' in source:
        return LlamaFormat()
    return None
