"""What the engine uses of msgspec, in plain Python, for interpreters that lack it: messages that stay in the process.

Nothing is encoded in process, so a struct is a dataclass here.
"""

import dataclasses
from typing import Any, dataclass_transform

field = dataclasses.field


@dataclass_transform(frozen_default=False, field_specifiers=(dataclasses.field,))
class Struct:
    """Stands for `msgspec.Struct`; the options that only encoding needs are passed over."""

    def __init_subclass__(cls, *, frozen: bool = False, kw_only: bool = False, **options: Any) -> None:
        super().__init_subclass__()
        dataclasses.dataclass(frozen=frozen, kw_only=kw_only)(cls)


class structs:
    """Stands for `msgspec.structs`."""

    @staticmethod
    def force_setattr(struct: Struct, name: str, value: Any) -> None:
        object.__setattr__(struct, name, value)

    @staticmethod
    def replace(struct: Any, **changes: Any) -> Any:
        return dataclasses.replace(struct, **changes)
