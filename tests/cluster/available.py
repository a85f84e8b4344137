"""What happens where a control plane cannot be had."""

import os

import pytest

IN_CI = os.environ.get("CI") == "true"


def unavailable(reason: str) -> None:
    """Skip, or in CI fail: there a test that silently does not run is a hole."""
    if IN_CI:
        pytest.fail(f"CI=true allows no skipping: {reason}", pytrace=False)
    pytest.skip(reason)
