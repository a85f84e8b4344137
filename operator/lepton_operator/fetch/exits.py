"""Exit statuses of `lepton fetch`, by which the operator tells what went wrong."""

OK = 0
FAILED = 1
USAGE = 2
UNAUTHORIZED = 10
NOT_FOUND = 11
FULL = 12
CHECKSUM = 13
UNAVAILABLE = 14
CHANGED = 15

FINAL = frozenset({USAGE, UNAUTHORIZED, NOT_FOUND, FULL, CHANGED})
"""Statuses that another try does not mend."""
