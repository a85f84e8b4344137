"""h2spec against our stack: HTTP/2 as RFC 9113 and RFC 7541 have it, but for what h2spec-allowed.toml lists."""

import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from conformance.rows import Row
from conformance.running import Running

ALLOWED = Path(__file__).with_name("h2spec-allowed.toml")


@dataclass(frozen=True)
class Allowed:
    """Cases that may fail, as `section: description`, each with the reason.

    Attributes:
        always: these have to fail. sometimes: these may pass as well, for they hang on who is faster.
    """

    always: Mapping[str, str]
    sometimes: Mapping[str, str]


def allowed() -> Allowed:
    """What h2spec-allowed.toml lists."""
    with open(ALLOWED, "rb") as file:
        read = tomllib.load(file)
    always, sometimes = (
        {case: entry["why"] for entry in read[kind] for case in entry["cases"]} for kind in ("exception", "sometimes")
    )
    return Allowed(always, sometimes)


def run(programs: Path, server: Running, folder: Path, timeout: float = 900.0) -> Row:
    """Runs all its cases.

    Args:
        folder: for its report.
    """
    report = folder / f"h2spec-{server.connection}.xml"
    arguments = [str(programs / "h2spec"), "-h", "127.0.0.1", "-p", str(server.port), "-j", str(report)]
    arguments += ["--timeout", "1", "--path", "/lepton.v1.GenerationService/Generate"]
    if server.authority is not None:
        arguments += ["-t", "-k"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout, check=False)
    if not report.is_file():
        return Row("h2spec", server.connection, 0, 0, [f"exit status {done.returncode}: {done.stdout[-1000:]}"])
    return judge(dict(cases(report)), allowed(), server.connection)


def cases(report: Path) -> Iterator[tuple[str, str]]:
    """Each case of a report, and how it failed: empty where it passed."""
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('package')}: {case.get('classname')}"
        failed = case.find("failure")
        if failed is None:
            failed = case.find("error")
        yield name, "" if failed is None else " ".join((failed.text or "").split()) or "failed"


def judge(found: Mapping[str, str], allowed: Allowed, connection: str) -> Row:
    """What is wrong: failures that are not listed, and listed ones that pass or do not exist."""
    failed = {name: how for name, how in found.items() if how}
    listed = {*allowed.always, *allowed.sometimes}
    wrong = [f"{name}: {how}" for name, how in failed.items() if name not in listed]
    wrong += [
        f"{name}: is listed in {ALLOWED.name}, but {'passes' if name in found else 'does not exist'}"
        for name in (*allowed.always, *(name for name in allowed.sometimes if name not in found))
        if name not in failed
    ]
    return Row("h2spec", connection, len(found) - len(failed), len(failed.keys() & listed), wrong)
