"""The sandbox that chat templates are rendered in: no attribute escapes, and bounds on work and size.

A chat template is code that comes with a checkpoint. Jinja's sandbox keeps it from Python's internals; it does not keep
it from running or growing without end. This environment charges every loop turn, macro call and produced character to a
budget, and refuses the arguments (widths, repetitions, powers) by which one operation alone could exceed it.

Its filters and globals are those that templates written for `transformers` expect: `tojson` without HTML escapes,
`raise_exception`, `strftime_now`, `namespace`, `dict`, `{% generation %}` blocks, `{% break %}` and `{% continue %}`.
"""

import functools
import json
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from lepton_engine.text import template_growth as growth
from lepton_engine.text.template_growth import TemplateBudgetError

MAX_STEPS = 400_000
MAX_CHARACTERS = 16_000_000
MAX_INTEGER_BITS = 256


class TemplateRejection(TemplateError):
    """Raised by a template's own `raise_exception(...)`: the messages break the template's rules."""


class Budget:
    """What one rendering has left: loop turns and calls (`steps`) and characters produced anywhere (`characters`)."""

    def __init__(self, steps: int = MAX_STEPS, characters: int = MAX_CHARACTERS) -> None:
        self.steps = steps
        self.characters = characters

    def step(self) -> None:
        """Charge one loop turn or call. Raises TemplateBudgetError when none is left."""
        self.steps -= 1
        if self.steps < 0:
            raise TemplateBudgetError(f"more than {MAX_STEPS} loop turns and calls")

    def charge(self, count: int) -> None:
        """Charge `count` characters (or list items). Raises TemplateBudgetError when too few are left."""
        self.afford(count)
        self.characters -= count

    def afford(self, count: int) -> None:
        """Raise TemplateBudgetError if fewer than `count` characters are left."""
        if count > self.characters:
            raise TemplateBudgetError(f"more than {MAX_CHARACTERS} characters produced")


_budget: ContextVar[Budget] = ContextVar("template_budget")
_COMPILING = Budget()  # constants are folded when a template is compiled; each is within one budget


def _current() -> Budget:
    return _budget.get(_COMPILING)


def use_budget(budget: Budget) -> None:
    """Make `budget` the one that renderings in this context are charged to."""
    _budget.set(budget)


def _raise_exception(message: object) -> None:
    raise TemplateRejection(str(message))


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Dict:
    """`dict` as templates call it, without the type object and its attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """Jinja's `namespace` that refuses names with a leading underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        values = dict(*rest, **kwargs)
        for name in values:
            _check_name(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold the name {name!r}, which begins with an underscore")


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}`, which marks the assistant's text for training; rendered as is."""

    tags = {"generation"}  # noqa: RUF012 (an instance attribute in Jinja's own declaration)

    def parse(self, parser: Parser) -> nodes.Node:
        """Parse the block into a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller: Macro) -> str:
        return str(caller())


class _Meter(NodeTransformer):
    """Puts a call of `environment.step` at the head of every loop and macro body and meters `~`."""

    def _metered(self, node: Any) -> nodes.Node:
        literal = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        node = self.generic_visit(node)
        call = nodes.Call(nodes.EnvironmentAttribute("step"), [nodes.Const(literal)], [], None, None)
        node.body.insert(0, nodes.ExprStmt(call, lineno=node.lineno))
        return node  # type: ignore[no-any-return]

    visit_For = _metered
    visit_Macro = _metered
    visit_CallBlock = _metered

    def visit_Concat(self, node: nodes.Concat, *args: Any, **kwargs: Any) -> nodes.Node:
        self.generic_visit(node)
        return nodes.Call(nodes.EnvironmentAttribute("concatenate"), node.nodes, [], None, None, lineno=node.lineno)


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox with budgets. `use_budget` must have been called in the rendering context."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, LoopControlExtension],
            finalize=self._finalize,
        )
        self.filters["tojson"] = _tojson
        self.filters = {name: _bounded(name, function) for name, function in self.filters.items()}
        del self.globals["lipsum"]
        self.globals.update(
            raise_exception=_raise_exception, strftime_now=_strftime_now, dict=_Dict(), namespace=_Namespace
        )

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _Meter().visit(super()._parse(source, name, filename))  # type: ignore[no-any-return]

    @staticmethod
    def step(characters: int = 0) -> None:
        """Charge one loop turn, with the literal text that its body may produce, to the budget in force."""
        budget = _current()
        budget.step()
        budget.charge(characters)

    @staticmethod
    def concatenate(*parts: Any) -> str:
        """The `~` operator, charged to the budget in force."""
        budget = _current()
        budget.charge(sum(growth.text_size(part, budget.characters) for part in parts))
        return "".join(map(str, parts))

    @staticmethod
    def _finalize(value: Any) -> Any:
        if _budget.get(None) is not None:
            budget = _current()
            budget.charge(growth.text_size(value, budget.characters))
        return value

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Evaluate `*`, `**`, `+` or `%` if its result is small enough."""
        budget = _current()
        if operator in ("*", "**"):
            for value, other in ((left, right), (right, left)):
                if isinstance(value, str | list | tuple) and isinstance(other, int):
                    budget.afford(len(value) * max(other, 0))
                if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
                    raise TemplateBudgetError(f"an integer of more than {MAX_INTEGER_BITS} bits")
            if operator == "**" and isinstance(right, int) and abs(right) > MAX_INTEGER_BITS:
                raise TemplateBudgetError(f"a power above {MAX_INTEGER_BITS}")
        elif operator == "%" and isinstance(left, str):
            budget.afford(growth.percent_size(left, right, budget.characters))
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, str | list | tuple):
            budget.charge(len(result))
        return result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`format` and `format_map` of a text, in Jinja's sandbox and within the budget."""
        sandboxed = super().wrap_str_format(value)
        if sandboxed is None:
            return None

        @functools.wraps(sandboxed)
        def bounded(*args: Any, **kwargs: Any) -> str:
            budget = _current()
            mapped = args[0].values() if value.__name__ == "format_map" and args else args
            budget.afford(growth.brace_size(value.__self__, [*mapped, *kwargs.values()], budget.characters))
            result = sandboxed(*args, **kwargs)
            budget.charge(len(result))
            return result

        return bounded

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call from template code; methods of texts are kept from producing texts without bound."""
        budget = _current()
        budget.step()
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if not isinstance(owner, str):
            return super().call(__context, __obj, *args, **kwargs)
        if name == "join" and args:
            args = (list(args[0]), *args[1:])
            budget.afford(growth.join_size(args[0], owner, budget.characters))
        elif name in growth.GROWING_METHODS:
            budget.afford(growth.GROWING_METHODS[name](owner, *args, **kwargs))
        result = super().call(__context, __obj, *args, **kwargs)
        if isinstance(result, str | list):
            budget.charge(len(result))
        return result


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter within the budget. `wraps` keeps Jinja's marks on the function."""
    skip = 1 if hasattr(function, "jinja_pass_arg") else 0  # an environment or context comes first
    estimate = growth.GROWING_FILTERS.get(name)

    @functools.wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        budget = _current()
        given, rest = args[: skip + 1], args[skip + 1 :]
        if name in growth.TEXT_FILTERS:
            budget.afford(growth.text_size(given[-1], budget.characters))
        if estimate is not None:
            budget.afford(estimate(given[-1], *rest, **kwargs))
        elif name == "join":
            given = (*given[:-1], list(given[-1]))
            budget.afford(growth.join_size(given[-1], kwargs.get("d", rest[0] if rest else ""), budget.characters))
        elif name == "format":
            budget.afford(growth.percent_size(str(given[-1]), kwargs or rest, budget.characters))
        elif name == "sum" and not isinstance(kwargs.get("start", rest[1] if len(rest) > 1 else 0), int | float):
            raise TemplateBudgetError("a sum of something other than numbers")
        result = function(*given, *rest, **kwargs)
        if isinstance(result, str | list) and _budget.get(None) is not None:
            budget.charge(len(result))
        return result

    return bounded
