"""docs/security.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_promise_names_a_test_that_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/security.md").read_text())
    assert len(named) > 30
    for path, test in named:
        text = (ROOT / path).read_text()
        assert not test or re.search(rf"^(?:async )?def {test}\(", text, re.MULTILINE), f"{path}::{test}"
