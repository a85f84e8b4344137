"""The interop client on the real stack, and how the runners judge what the suites say."""

import re
import subprocess
from pathlib import Path

import pytest

from conformance import connect, h2spec, interop
from conformance.programs import folder
from conformance.rows import Row, table
from conformance.running import interop_server
from tests.cluster.available import unavailable
from tests.cluster.build import BuildError

pytestmark = pytest.mark.timeout(1800)  # the first of them builds the programs


@pytest.fixture(scope="module")
def programs() -> Path:
    try:
        return folder()
    except BuildError as error:
        unavailable(str(error))
        raise


def test_interop_in_plaintext_and_tls(programs: Path, tmp_path: Path) -> None:
    for keys in (None, tmp_path / "keys"):
        with interop_server(programs, keys) as server:
            row = interop.run(programs, server)
        assert row.wrong == []
        assert row.passed == len(interop.CASES)


def test_every_case_of_the_interop_client_is_run_or_has_a_reason(programs: Path) -> None:
    said = subprocess.run([programs / "client", "-help"], capture_output=True, text=True, check=False).stderr
    listed = re.search(r"-test_case string\n(.*?)\n  -", said, re.DOTALL)
    assert listed is not None
    cases = set(re.findall(r"^\s+(\w+) ?:", listed[1], re.MULTILINE))
    assert cases == {*interop.CASES, *interop.NOT_APPLICABLE}


def test_a_failing_case_is_told(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interop, "CASES", ("empty_unary", "unimplemented_method", "orca_per_rpc"))
    with interop_server(programs, None) as server:
        row = interop.run(programs, server)
    assert row.passed == 2
    assert [line.partition(":")[0] for line in row.wrong] == ["orca_per_rpc"]


def test_h2spec_judges_both_ways() -> None:
    found = {"a": "", "b": "timeout", "c": "reset", "d": "", "f": "", "g": "reset"}
    listed = h2spec.Allowed({"c": "why", "d": "why", "e": "why"}, {"f": "why", "g": "why", "h": "why"})
    row = h2spec.judge(found, listed, "TLS")
    assert (row.passed, row.expected) == (3, 2)
    assert row.wrong == [
        "b: timeout",
        "d: is listed in h2spec-allowed.toml, but passes",
        "e: is listed in h2spec-allowed.toml, but does not exist",
        "h: is listed in h2spec-allowed.toml, but does not exist",
    ]


def test_h2spec_report(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase package="http2/1" classname="works"/>'
        '<testcase package="http2/1" classname="fails"><failure>GOAWAY\nTimeout</failure></testcase>'
        "</testsuite></testsuites>"
    )
    assert dict(h2spec.cases(report)) == {"http2/1: works": "", "http2/1: fails": "GOAWAY Timeout"}


def test_every_exception_has_a_reason() -> None:
    listed = h2spec.allowed()
    assert all(len(why) > 40 for why in (*listed.always.values(), *listed.sometimes.values()))
    for path in (connect.KNOWN_FAILING, connect.SKIPPED):
        blocks = path.read_text().strip().split("\n\n")[1:] or [path.read_text()]
        assert all(block.startswith("#") for block in blocks)


@pytest.mark.parametrize(
    ("said", "status", "expected"),
    [
        ("Total cases: 4\n3 passed, 0 failed\n(Another 1 failed as expected due to x.)\n", 0, (3, 1, [])),
        ("FAILED: A/b:\n\twhy\nTotal cases: 2\n1 passed, 1 failed\n", 1, (1, 0, ["A/b"])),
    ],
)
def test_connect_counts(said: str, status: int, expected: tuple[int, int, list[str]]) -> None:
    assert connect.counts(said, status) == expected


def test_a_suite_that_ends_early_is_wrong() -> None:
    assert connect.counts("panic", 2) == (0, 0, ["exit status 2: panic"])
    passed, _, wrong = connect.counts("Total cases: 1\n1 passed, 0 failed\n", 1)
    assert (passed, len(wrong)) == (1, 1)


def test_table() -> None:
    lines = table([Row("h2spec", "TLS", 56, 89, ["x: y"])]).splitlines()
    assert lines[1].split() == ["h2spec", "TLS", "56", "89", "1"]
    assert lines[2] == "    x: y"
