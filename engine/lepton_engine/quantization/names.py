"""Which modules a checkpoint's lists of names mean."""

import re
from collections.abc import Collection, Iterable


def listed(module: str, names: Iterable[str]) -> bool:
    """Whether `modules_to_not_convert` names a module: by its name, by that of a module around it, or by their ends.

    "lm_head", "model.layers.0", "self_attn", "down_proj" and "layers.0.mlp" all do; "layers.1" does not mean
    "layers.10".
    """
    dotted = f".{module}."
    return any(f".{name.strip('.')}." in dotted for name in names)


def holds(module: str, suffixes: Iterable[str], stored: Collection[str], skipped: Iterable[str]) -> bool:
    """Whether a module is stored in a quantised form.

    What is stored decides, since the lists of names mean different things to different programs: one of the tensors of
    the quantised form, or else a plain `weight`. Where there is neither, something is missing from a module that is to
    be quantised, unless the lists except it.
    """
    if any(f"{module}.{suffix}" in stored for suffix in suffixes):
        return True
    return f"{module}.weight" not in stored and not listed(module, skipped)


def matches(module: str, target: str) -> bool:
    """Whether a target or an exception of compressed-tensors means a module: its name, or "re:" and an expression.

    Raises:
        re.error: the expression is none.
    """
    if target.startswith("re:"):
        return re.match(target.removeprefix("re:"), module) is not None
    return target == module
