"""What the end-to-end tests tell: tables, pictures, and rights against the audit log."""

import json
from pathlib import Path

import pytest

from tests.e2e.figures import BEGIN, END, Figures, main, put
from tests.e2e.picture import Sample, draw, moving
from tests.e2e.plan import Record
from tests.e2e.rights import Right, granted, use


def record(code: str = "OK", problem: str = "", seconds: float = 10.0) -> Record:
    return Record("a", 100.0, 0.5, seconds, 8, 8, code, "", problem)


def test_runs_stand_beside_each_other(tmp_path: Path) -> None:
    quick, full = Figures("make e2e", tmp_path / "quick.json"), Figures("make e2e-full", tmp_path / "full.json")
    quick.add("to the first token", "12 s", "60 s")
    quick.streams("streams", [record(), record("UNAVAILABLE"), record(problem="another text")], "0 errors")
    full.add("to the first token", "13 s", "60 s")
    full.times("seconds of a stream", [1.0, 2.0, 30.0])
    page = tmp_path / "e2e.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main([str(quick.path), str(full.path), "--into", str(page)]) == 0
    text = page.read_text()
    assert "| what | make e2e | make e2e-full | target |" in text
    assert "| to the first token | 12 s | 13 s | 60 s |" in text
    assert "| streams | 3 ended, 2 of them with an error or another text |  | 0 errors |" in text
    assert "p50 2.0 s, p95 30.0 s, most 30.0 s" in text
    assert "old" not in text
    assert text.endswith("\nafter\n")


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="figures: begin"):
        put("no marks", "table")


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "scale-up.png"
    draw([Sample(100.0, 1, 1, 4), Sample(110.0, 4, 2, 40)], [record()], 12, file)
    assert file.stat().st_size > 10_000
    with pytest.raises(ValueError, match="no samples"):
        draw([], [], 12, file)


def test_the_median_moves_in_windows() -> None:
    assert moving([(1.0, 2.0), (3.0, 4.0), (9.0, 9.0), (15.0, 1.0)]) == ([5.0, 15.0], [4.0, 1.0])
    assert moving([]) == ([], [])


def event(
    verb: str, resource: str, decision: str, subresource: str = "", user: str = "operator", code: int = 200
) -> str:
    about = {"resource": resource, "apiGroup": "apps", **({"subresource": subresource} if subresource else {})}
    annotations = {"authorization.k8s.io/decision": decision}
    answer = {"code": code}
    found = {"user": {"username": user}, "verb": verb, "objectRef": about, "responseStatus": answer}
    return json.dumps({**found, "annotations": annotations})


def test_rights_are_told_from_the_log(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    lines = [
        event("get", "deployments", "allow"),
        event("patch", "deployments", "allow", "scale"),
        event("patch", "statefulsets", "allow", code=201),
        event("delete", "deployments", "forbid"),
        event("list", "deployments", "allow", user="somebody"),
        json.dumps({"user": {"username": "operator"}, "verb": "get"}),
        '{"torn',
    ]
    log.write_text("\n".join(lines))
    found = use(log, ["operator"])
    assert found.used == {
        Right("apps", "deployments", "get"),
        Right("apps", "deployments/scale", "patch"),
        Right("apps", "statefulsets", "patch"),
        Right("apps", "statefulsets", "create"),
    }
    assert found.forbidden == {Right("apps", "deployments", "delete")}
    rules = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list"]}]
    assert {str(right) for right in granted(rules) - found.used} == {"list deployments.apps"}
