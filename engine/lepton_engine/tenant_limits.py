"""The file with the limits of tenants: TOML, read strictly, read again when it changes.

    [default]                    # each tenant that is not named below, the common one without a name included
    max_concurrent_requests = 32 # in flight, those that wait included
    max_queued_requests = 16     # of these, waiting to run
    tokens_per_minute = 120_000  # of prompts and outputs together

    [tenants.batch]              # what is left out is as in [default]
    tokens_per_minute = 20_000
    weight = 0.5                 # its part of a busy server, relative to the others' (default 1)

Every field may be left out: no limit.
"""

import logging
import os
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from lepton_engine.core.tenants import TenantLimits, TenantTable
from lepton_engine.errors import InvalidRequestError

FIELD = "tenant_limits"
POLL_SECONDS = 1.0
MAX_TENANT_LENGTH = 256
MOST = 1 << 53
_NAMES = tuple(field.name for field in fields(TenantLimits))

logger = logging.getLogger(__name__)


def read_limits(path: str | os.PathLike[str]) -> TenantTable:
    """The limits of a file.

    Raises:
        InvalidRequestError: it cannot be read, is no TOML, or has a field or value that is not allowed.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(FIELD, f"{os.fspath(path)!r} cannot be read: {error}") from error
    return parse_limits(text)


def parse_limits(text: str) -> TenantTable:
    """The limits of a TOML text.

    Raises:
        InvalidRequestError: it is no TOML, or has a field or value that is not allowed.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequestError(FIELD, f"is not TOML: {error}") from error
    for name in document:
        if name not in ("default", "tenants"):
            raise InvalidRequestError(f"{FIELD}.{name}", "is not known, allowed are default and tenants")
    default = _limits(f"{FIELD}.default", document.get("default", {}), TenantLimits())
    tenants = {}
    for name, values in _table(f"{FIELD}.tenants", document.get("tenants", {})).items():
        if not name or len(name) > MAX_TENANT_LENGTH:
            raise InvalidRequestError(
                f"{FIELD}.tenants", f"a name has {len(name)} characters, allowed are 1 to {MAX_TENANT_LENGTH}"
            )
        tenants[name] = _limits(f"{FIELD}.tenants.{name}", values, default)
    return TenantTable(default, tenants)


def _table(path: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequestError(path, f"{value!r} is not a table")
    return value


def _limits(path: str, given: Any, default: TenantLimits) -> TenantLimits:
    values = _table(path, given)
    for name in values:
        if name not in _NAMES:
            raise InvalidRequestError(f"{path}.{name}", f"is not known, allowed are {', '.join(_NAMES)}")

    def whole(name: str, least: int, otherwise: int | None) -> int | None:
        value = values.get(name, otherwise)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
            raise InvalidRequestError(f"{path}.{name}", f"{value!r} is not a whole number of at least {least}")
        return value

    weight = values.get("weight", default.weight)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0.001 <= weight <= 1000:
        raise InvalidRequestError(f"{path}.weight", f"{weight!r} is not a number from 0.001 to 1000")
    return TenantLimits(
        whole("max_concurrent_requests", 1, default.max_concurrent_requests),
        whole("max_queued_requests", 0, default.max_queued_requests),
        whole("tokens_per_minute", 1, default.tokens_per_minute),
        float(weight),
    )


class LimitsFile:
    """A file of limits, and whether it has changed.

    Raises:
        InvalidRequestError: as `read_limits`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._stamp = self._stat()
        self._next = 0.0
        self.table = read_limits(self._path)

    def poll(self, now: float) -> TenantTable | None:
        """The new limits if the file has changed; looked at once a second at most.

        What cannot be used is logged, and the old limits stay.

        Args:
            now: in `time.monotonic` seconds.
        """
        if now < self._next:
            return None
        self._next = now + POLL_SECONDS
        stamp = self._stat()
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            self.table = read_limits(self._path)
        except InvalidRequestError as error:
            logger.error("the limits of tenants stay as they were: %s", error)
            return None
        logger.info("the limits of tenants are read again: %d tenants are named", len(self.table.tenants))
        return self.table

    def _stat(self) -> tuple[int, int, int] | None:
        """What tells a changed file, also one that was put in its place; None while there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
