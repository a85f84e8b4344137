"""The file of limits: what it says, what is refused by name, and that it is read again."""

import os
from pathlib import Path

import pytest

from lepton_engine.core.tenants import TenantLimits
from lepton_engine.errors import InvalidRequestError
from lepton_engine.tenant_limits import LimitsFile, parse_limits, read_limits

TEXT = """
[default]
max_concurrent_requests = 32
tokens_per_minute = 120_000

[tenants.batch]
tokens_per_minute = 20_000
max_queued_requests = 0
weight = 0.5

[tenants."team a@example"]
"""


def test_named_tenants_take_what_they_leave_out_from_the_default() -> None:
    table = parse_limits(TEXT)
    assert table.limits("batch") == TenantLimits(32, 0, 20_000, 0.5)
    assert (
        table.limits("team a@example") == table.limits("nobody") == table.limits("") == TenantLimits(32, None, 120_000)
    )
    assert parse_limits("").limits("anyone") == TenantLimits()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default = 3", r"tenant_limits\.default: 3 is not a table"),
        ("tenants = []", r"tenant_limits\.tenants: \[\] is not a table"),
        ("[tenants]\na = 1", r"tenant_limits\.tenants\.a: 1 is not a table"),
        ("[defaults]", r"tenant_limits\.defaults: is not known, allowed are default and tenants"),
        ("[default]\nmax_requests = 1", r"tenant_limits\.default\.max_requests: is not known, allowed are max_conc"),
        ("[default]\ntokens_per_minute = 0", r"tokens_per_minute: 0 is not a whole number of at least 1"),
        ("[default]\ntokens_per_minute = 1.5", r"tokens_per_minute: 1.5 is not a whole number"),
        ("[default]\ntokens_per_minute = true", r"tokens_per_minute: True is not a whole number"),
        ('[tenants.a]\nmax_queued_requests = "2"', r"tenants\.a\.max_queued_requests: '2' is not a whole number"),
        ("[tenants.a]\nmax_queued_requests = -1", r"max_queued_requests: -1 is not a whole number of at least 0"),
        ("[tenants.a]\nmax_concurrent_requests = 99999999999999999", r"99999999999999999 is not a whole number"),
        ("[tenants.a]\nweight = 0", r"tenants\.a\.weight: 0 is not a number from 0\.001 to 1000"),
        ("[tenants.a]\nweight = nan", r"weight: nan is not a number"),
        ('[tenants.""]', r"tenant_limits\.tenants: a name has 0 characters"),
        ("[default", r"tenant_limits: is not TOML: Expected"),
    ],
)
def test_what_cannot_be_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        parse_limits(text)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"tenant_limits: .*limits\.toml' cannot be read"):
        read_limits(tmp_path / "limits.toml")
    (tmp_path / "limits.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidRequestError, match=r"cannot be read"):
        LimitsFile(tmp_path / "limits.toml")


def replace(path: Path, text: str) -> None:
    """As an editor and a ConfigMap do it: another file takes the place."""
    other = path.with_suffix(".new")
    other.write_text(text)
    os.replace(other, path)


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(TEXT)
    file = LimitsFile(path)
    assert file.poll(0.0) is None
    replace(path, "[default]\nweight = 2")
    assert file.poll(0.5) is None, "it is looked at once a second"
    table = file.poll(1.0)
    assert table is not None
    assert table.limits("batch").weight == 2
    assert file.poll(2.0) is None
    replace(path, "[default]\nweight = -2")
    assert file.poll(3.0) is None
    assert "the limits of tenants stay as they were: tenant_limits.default.weight: -2" in caplog.text
    assert file.table is table
    path.unlink()
    assert file.poll(4.0) is None
    assert "cannot be read" in caplog.text
    replace(path, "")
    assert file.poll(5.0) is not None
