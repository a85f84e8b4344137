"""Random numbers by counter: a pure function of seed and position, so that nothing else in a batch can shift them.

The generator is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) started from a mixed seed; its n-th output is computed
directly, without the ones before it.
"""

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_SEQUENCE = 0xD1342543DE82EF95


def _mix(value: int) -> int:
    """SplitMix64's finaliser: a bijection of 64-bit integers in which every input bit moves every output bit."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def sequence_seed(seed: int, index: int) -> int:
    """The seed of the index-th sequence of a request, 0 to 2**63 - 1; the first keeps the request's own."""
    if index == 0:
        return seed
    return _mix(_mix(seed & _MASK) ^ (index * _SEQUENCE & _MASK)) >> 1


def uniform(seed: int, position: int) -> float:
    """The number in [0, 1), with 53 random bits, that belongs to the position-th token of a sequence."""
    key = _mix((seed + _GOLDEN) & _MASK)
    return float(_mix((key + (position + 1) * _GOLDEN) & _MASK) >> 11) * 2.0**-53
