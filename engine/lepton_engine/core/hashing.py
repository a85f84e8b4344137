"""Content hashes of KV cache blocks: a SHA-256 chain, so that equal hashes mean equal prefixes."""

import hashlib
from array import array
from collections.abc import Sequence


def root_hash(tenant: str, adapter: str) -> bytes:
    """The start of the chain; tenants and adapters never share blocks (CVE-2025-46570 is what happens otherwise)."""
    digest = hashlib.sha256()
    for part in (tenant, adapter):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.digest()


def extend_hashes(hashes: list[bytes], root: bytes, token_ids: Sequence[int], block_size: int, num_tokens: int) -> None:
    """Append the hashes of the full blocks among the first num_tokens tokens that `hashes` does not have yet."""
    parent = hashes[-1] if hashes else root
    for start in range(len(hashes) * block_size, num_tokens - block_size + 1, block_size):
        block = array("q", token_ids[start : start + block_size])
        parent = hashlib.sha256(parent + block.tobytes()).digest()
        hashes.append(parent)
