from hashlib import sha256
from itertools import combinations

from lepton_engine.core.hashing import extend_hashes, root_hash


def hashes(token_ids: list[int], block_size: int, root: bytes = b"") -> list[bytes]:
    found: list[bytes] = []
    extend_hashes(found, root, token_ids, block_size, len(token_ids))
    return found


def test_roots_keep_tenants_and_adapters_apart() -> None:
    names = [("", ""), ("a", ""), ("", "a"), ("a", "b"), ("ab", ""), ("", "ab"), ("b", "a"), ("a\0", "")]
    assert len({root_hash(*name) for name in names}) == len(names)


def test_the_chain_is_of_full_blocks_and_depends_on_all_before() -> None:
    one = sha256(b"root" + (1).to_bytes(8, "little") + (2).to_bytes(8, "little")).digest()
    assert hashes([1, 2, 3], 2, b"root") == [one]
    chains = [hashes(tokens, 2) for tokens in ([1, 2, 3, 4], [2, 1, 3, 4], [1, 2, 4, 3], [1, 3, 3, 4])]
    assert chains[0][0] == chains[2][0]
    for first, second in combinations(chains, 2):
        assert first[1] != second[1]


def test_extending_in_pieces_is_extending_at_once() -> None:
    tokens = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
    for size in (1, 2, 3, 4, 11, 12):
        pieces: list[bytes] = []
        for end in range(len(tokens) + 1):
            extend_hashes(pieces, b"root", tokens, size, end)
            assert len(pieces) == end // size
        assert pieces == hashes(tokens, size, b"root")


def test_token_ids_above_two_bytes_are_told_apart() -> None:
    assert len({hashes([token], 1)[0] for token in (1, 1 + (1 << 16), 1 + (1 << 32), 2**62)}) == 4
