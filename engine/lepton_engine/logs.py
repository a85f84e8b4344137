"""Logs: text for people, or one JSON object a line. Imports nothing of the engine."""

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime

STYLES = ("text", "json")
# The engine's process and further front ends take the style over from the process that starts them.
STYLE_VARIABLE = "LEPTON_LOG_FORMAT"

_PLAIN = re.compile(r"[\x21\x23-\x3c\x3e-\x7e]+")


class Fields:
    """A log message of named values: `key=value` pairs as text, members of the object as JSON."""

    def __init__(self, message: str, values: dict[str, object]) -> None:
        self.message = message
        self.values = values

    def __str__(self) -> str:
        """The pairs; values with spaces, quotes or control characters are quoted, so that a line stays one line."""
        return " ".join(f"{key}={_quoted(str(value))}" for key, value in self.values.items())


class JSONFormatter(logging.Formatter):
    """A record as JSON: time, level, logger, message, and the values of `Fields`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        given = record.msg if isinstance(record.msg, Fields) else None
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage() if given is None else given.message,
        }
        if given is not None:
            fields.update(given.values)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def set_up(level: str | int, style: str | None = None) -> None:
    """Send all logs of this process, and of those that it starts, to stderr.

    Args:
        style: one of STYLES; None takes what the process that started this one has set, else text.
    """
    style = style or os.environ.get(STYLE_VARIABLE, "text")
    os.environ[STYLE_VARIABLE] = style
    handler = logging.StreamHandler(sys.stderr)
    if style == "json":
        handler.setFormatter(JSONFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
