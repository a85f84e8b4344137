"""What requests are known by, beside their keys: the names that clients gave them, and what they ask."""

import hashlib
from array import array
from collections.abc import Callable

import msgspec

from lepton_engine.core.request import Request

SWEEP = 1024
TOLD = {"output_kind", "detokenize", "skip_special_tokens"}  # How the result is told, not what is computed.


class RequestNames:
    """The names in use. A name is free again when its request has ended, whether anybody has said so or not.

    Args:
        is_live: whether the request of a key is unfinished.
    """

    def __init__(self, is_live: Callable[[str], bool]) -> None:
        self._is_live = is_live
        self._keys: dict[tuple[str, str], str] = {}
        self._sweep_at = SWEEP

    def is_held(self, tenant: str, name: str) -> bool:
        """Whether an unfinished request of the tenant has the name."""
        key = self._keys.get((tenant, name))
        return key is not None and self._is_live(key)

    def hold(self, tenant: str, name: str, key: str) -> None:
        """A request has this name from now on."""
        self._keys[(tenant, name)] = key
        if len(self._keys) >= self._sweep_at:
            self._keys = {name: key for name, key in self._keys.items() if self._is_live(key)}
            self._sweep_at = max(SWEEP, 2 * len(self._keys))


def fingerprint(request: Request) -> bytes:
    """16 bytes that the same prompt with the same parameters of the same tenant has again, under whatever name."""
    digest = hashlib.blake2b(array("I", request.prompt).tobytes(), digest_size=16)
    asked = {name: value for name, value in msgspec.structs.asdict(request.params).items() if name not in TOLD}
    digest.update(repr((request.tenant, request.adapter, request.max_tokens, asked)).encode())
    return digest.digest()
