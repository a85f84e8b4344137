"""Reads Containerfiles."""

import re


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions, as (word, the rest of it in one line)."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(words[0], re.sub(r"\s+", " ", words[1])) for words in found]
