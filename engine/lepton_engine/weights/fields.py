"""Reads a checkpoint's config.json with types checked. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from lepton_engine.errors import ModelLoadError

_REQUIRED = object()


class Fields:
    """The fields of a configuration.

    A field that is absent or null takes the default; one without a default must be there.

    Raises:
        ModelLoadError: from each method, naming the field, the value found and what is allowed.
    """

    def __init__(self, config: Mapping[str, Any], prefix: str = "") -> None:
        self._config = config
        self._prefix = prefix

    def __contains__(self, name: str) -> bool:
        return self._config.get(name) is not None

    def is_null(self, name: str) -> bool:
        """Whether the field is there and says null."""
        return name in self._config and self._config[name] is None

    def _get(self, name: str, default: Any) -> Any:
        value = self._config.get(name)
        if value is not None:
            return value
        if default is _REQUIRED:
            raise ModelLoadError(f"config.json: {self._prefix}{name} is missing")
        return default

    def _wrong(self, name: str, value: object, allowed: str) -> ModelLoadError:
        return ModelLoadError(f"config.json: {self._prefix}{name} is {value!r}, {allowed} is needed")

    def integer(self, name: str, default: Any = _REQUIRED, low: int = 1) -> int:
        """An integer of at least low."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise self._wrong(name, value, f"an integer of at least {low}")
        return value

    def number(self, name: str, default: Any = _REQUIRED, low: float = 0.0) -> float:
        """A finite number of at least low."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < float("inf"):
            raise self._wrong(name, value, f"a number of at least {low:g}")
        return float(value)

    def boolean(self, name: str, default: Any = _REQUIRED) -> bool:
        """true or false."""
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def text(self, name: str, default: Any = _REQUIRED) -> str:
        """A text."""
        value = self._get(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, value, "a text")
        return value

    def texts(self, name: str, length: int, allowed: tuple[str, ...]) -> list[str]:
        """A list of that length, each element one of those allowed."""
        value = self._get(name, _REQUIRED)
        if not isinstance(value, list) or len(value) != length or any(item not in allowed for item in value):
            raise self._wrong(name, value, f"a list of {length} of {', '.join(allowed)}")
        return value

    def mapping(self, name: str) -> dict[str, Any] | None:
        """A mapping, or None when it is absent."""
        value = self._config.get(name)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(name, value, "a mapping")
        return value
