"""How long a text one operation of a chat template can make: bounded from above before it is carried out."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

Estimate = Callable[..., int]


class TemplateBudgetError(TemplateError):
    """A template that works or grows beyond what a chat template may."""


def text_size(value: Any, limit: int) -> int:
    """About how many characters `value` has as text or JSON; counts no further than `limit`.

    A list may hold one long text many times over, so its length says nothing.
    """
    total = 0
    stack = [value]
    while stack and total <= limit:
        item = stack.pop()
        if isinstance(item, str):
            total += len(item) + 2
        elif isinstance(item, Mapping):
            total += 4 * len(item) + 2
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, list | tuple | set):
            total += 2 * len(item) + 2
            stack.extend(item)
        else:
            total += item.bit_length() if isinstance(item, int) else 32
    return total


def percent_size(pattern: str, arguments: Any, limit: int) -> int:
    """Bound on `pattern % arguments`."""
    if re.search(r"%[-+ #0]*\*|\.\*", pattern):
        raise TemplateBudgetError("a format whose width is an argument")
    if isinstance(arguments, Mapping):
        arguments = tuple(arguments.values())
    return _format_size(pattern, pattern.count("%"), arguments if isinstance(arguments, tuple) else (arguments,), limit)


def brace_size(pattern: str, arguments: Sequence[Any], limit: int) -> int:
    """Bound on `pattern.format(*arguments)`."""
    if re.search(r"\{[^{}]*\{", pattern.replace("{{", "")):
        raise TemplateBudgetError("a format whose width is an argument")
    return _format_size(pattern, pattern.count("{"), arguments, limit)


def _format_size(pattern: str, places: int, arguments: Sequence[Any], limit: int) -> int:
    widths = [int(digits[:12]) for digits in re.findall(r"\d+", pattern)]
    longest = max((text_size(argument, limit) for argument in arguments), default=0)
    return len(pattern) + sum(widths) + places * longest


def replace_size(text: Any, old: Any, new: Any, *_: Any) -> int:
    """Bound on a text with `old` replaced by `new`."""
    whole = str(text)
    return len(whole) + whole.count(str(old)) * len(str(new))


def join_size(items: Sequence[Any], separator: Any, limit: int) -> int:
    """Bound on items joined by a separator."""
    return text_size(items, limit) + len(str(separator)) * len(items)


def lines_size(text: Any, width: Any = 4, *_: Any) -> int:
    """Bound on a text whose every line is indented."""
    whole = str(text)
    return len(whole) + (whole.count("\n") + 1) * (len(width) if isinstance(width, str) else _whole(width))


def _whole(value: Any) -> int:
    return abs(value) if isinstance(value, int) else 0


def _first_and_width(value: Any, width: Any = 80, *_: Any) -> int:
    return len(value) + _whole(width) if isinstance(value, str | list | tuple) else _whole(width)


def _wrapped(text: Any, width: Any = 79, break_long_words: Any = True, wrapstring: Any = None, *_: Any) -> int:
    return len(str(text)) * (1 + len(str(wrapstring or "\n")))


def _json(value: Any, ensure_ascii: Any = False, indent: Any = None, *_: Any) -> int:
    width = len(indent) if isinstance(indent, str) else _whole(indent)
    if width > 16:
        raise TemplateBudgetError(f"an indentation of {width}")
    return 0  # its size is that of its value, which is looked at for every filter in TEXT_FILTERS


# Filters whose result may be much longer than what goes in, with bounds on it from their arguments.
GROWING_FILTERS: Mapping[str, Estimate] = {
    "batch": _first_and_width,
    "center": _first_and_width,
    "indent": lines_size,
    "replace": replace_size,
    "slice": _first_and_width,
    "tojson": _json,
    "wordwrap": _wrapped,
}
# Filters that make a text of whatever they are given.
TEXT_FILTERS = frozenset(
    {"capitalize", "center", "e", "escape", "float", "forceescape", "format", "indent", "int", "lower", "pprint"}
    | {"replace", "safe", "string", "striptags", "title", "tojson", "trim", "truncate", "upper", "urlencode", "urlize"}
    | {"wordcount", "wordwrap", "xmlattr"}
)
# The same for methods of texts; the text itself comes first.
GROWING_METHODS: Mapping[str, Estimate] = {
    "center": _first_and_width,
    "expandtabs": lambda text, size=8: len(text) + text.count("\t") * _whole(size),
    "ljust": _first_and_width,
    "replace": replace_size,
    "rjust": _first_and_width,
    "translate": lambda text, table: len(text) * max((len(str(v)) for v in table.values()), default=1),
    "zfill": _first_and_width,
}
