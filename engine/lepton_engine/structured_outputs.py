"""The form that an output must have, under the names that vLLM's users know. Imports no torch."""

import json as jsons
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lepton_engine.errors import InvalidRequestError

FIELD = "sampling_params.structured_outputs"
KINDS = ("json", "regex", "grammar", "choice")
MAX_BYTES = 128 * 1024
MAX_CHOICES = 4096


class StructuredOutputs(msgspec.Struct, frozen=True, kw_only=True):
    """A constraint on the output; exactly one kind. Frozen and validated on construction.

    What a schema or grammar means is found out where it is compiled; here its outer form is checked.

    Attributes:
        json: JSON Schema, as text or as a mapping, which becomes text; `True` allows every JSON value.
        regex: the output matches it from end to end (Rust's regex syntax, without look-around).
        grammar: context-free grammar in llguidance's Lark syntax, whose rule `start` is the output.
        choice: texts, of which the output is one.

    Raises:
        InvalidRequestError: none or several are given, one is empty, malformed, or of more than 128 KiB.
    """

    json: str | dict[str, Any] | bool | None = None
    regex: str | None = None
    grammar: str | None = None
    choice: Sequence[str] | None = None

    def __post_init__(self) -> None:
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            held = " and ".join(given) or "nothing"
            raise InvalidRequestError(FIELD, f"holds {held}, exactly one of {', '.join(KINDS)} is required")
        if self.json is not None:
            msgspec.structs.force_setattr(self, "json", _schema_text(self.json))
        elif self.choice is not None:
            msgspec.structs.force_setattr(self, "choice", _choices(self.choice))
        else:
            _check_text(given[0], getattr(self, given[0]))

    @property
    def kind(self) -> str:
        """Which one is given: a name of `KINDS`."""
        return next(name for name in KINDS if getattr(self, name) is not None)

    @property
    def field(self) -> str:
        """The path of the field that is given, for errors."""
        return f"{FIELD}.{self.kind}"

    @property
    def value(self) -> str | tuple[str, ...]:
        """What is given, in a form that can be hashed."""
        found: str | tuple[str, ...] = getattr(self, self.kind)
        return found

    @classmethod
    def of(cls, given: Any) -> "StructuredOutputs":
        """From an instance, or from a mapping of its fields.

        Raises:
            InvalidRequestError: it is neither, or has fields that do not exist.
        """
        if isinstance(given, cls):
            return given
        if not isinstance(given, Mapping):
            raise InvalidRequestError(FIELD, f"{type(given).__name__} is no StructuredOutputs, nor a mapping of one")
        for name in given:
            if name not in KINDS:
                raise InvalidRequestError(FIELD, f"{name!r} is not one of {', '.join(KINDS)}")
        return cls(**given)


def _schema_text(schema: Any) -> str:
    name = "json"
    if isinstance(schema, str):
        _check_text(name, schema)
        try:
            value = jsons.loads(schema)
        except (ValueError, RecursionError) as error:
            raise InvalidRequestError(f"{FIELD}.{name}", f"is not JSON: {error}") from error
        if not isinstance(value, dict | bool):
            raise InvalidRequestError(f"{FIELD}.{name}", "is JSON but no schema: an object, true or false is required")
        return schema
    if not isinstance(schema, dict | bool):
        raise InvalidRequestError(f"{FIELD}.{name}", f"{type(schema).__name__} is no JSON Schema")
    try:
        text = jsons.dumps(schema, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{FIELD}.{name}", f"cannot be written as JSON: {error}") from error
    _check_text(name, text)
    return text


def _choices(given: Any) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, tuple | list):
        raise InvalidRequestError(f"{FIELD}.choice", f"{type(given).__name__} is not a list of texts")
    if not given:
        raise InvalidRequestError(f"{FIELD}.choice", "is empty: at least one text is required")
    if len(given) > MAX_CHOICES:
        raise InvalidRequestError(f"{FIELD}.choice", f"has {len(given)} texts, at most {MAX_CHOICES} are allowed")
    total = 0
    for index, text in enumerate(given):
        _check_text("choice", text, f"[{index}]")
        total += len(text.encode())
    if total > MAX_BYTES:
        raise InvalidRequestError(f"{FIELD}.choice", f"has {total} bytes, at most {MAX_BYTES} are allowed")
    return tuple(given)


def _check_text(name: str, text: Any, place: str = "") -> None:
    field = f"{FIELD}.{name}{place}"
    if not isinstance(text, str) or not text:
        raise InvalidRequestError(field, f"{text!r} is not a non-empty text" if text == "" else "is not a text")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidRequestError(field, f"character {error.start} is a lone surrogate, which is no text") from error
    if size > MAX_BYTES:
        raise InvalidRequestError(field, f"has {size} bytes, at most {MAX_BYTES} are allowed")
