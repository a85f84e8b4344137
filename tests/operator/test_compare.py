"""Whether a live object still is what was applied."""

from typing import Any

import pytest

from lepton_operator.compare import matches, quantity


@pytest.mark.parametrize(
    ("wanted", "live"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": ""}, {}),
        ({"a": []}, {}),
        ({"a": {"b": {}}}, {"a": {"b": {}}}),
        ({"emptyDir": {}}, {"emptyDir": {}}),
        ({"resources": {"limits": {"cpu": "1000m"}}}, {"resources": {"limits": {"cpu": "1"}}}),
        ({"requests": {"memory": "1024Mi"}}, {"requests": {"memory": "1Gi"}}),
        ({"emptyDir": {"sizeLimit": "0.5Gi"}}, {"emptyDir": {"sizeLimit": "512Mi"}}),
        ({"c": [{"name": "a", "x": 1}]}, {"c": [{"name": "b"}, {"name": "a", "x": 1, "y": 2}]}),
        ({"args": ["a", "b"]}, {"args": ["a", "b"]}),
    ],
)
def test_equal(wanted: Any, live: Any) -> None:
    assert matches(wanted, live)


@pytest.mark.parametrize(
    ("wanted", "live"),
    [
        ({"a": 1}, {}),
        ({"a": 1}, {"a": 2}),
        ({"a": True}, {"a": 1}),
        ({"a": "1000m"}, {"a": "1"}),  # not a field of quantities
        ({"limits": {"cpu": "2"}}, {"limits": {"cpu": "1"}}),
        ({"c": [{"name": "a"}]}, {"c": [{"name": "b"}]}),
        ({"args": ["a"]}, {"args": ["a", "b"]}),
        ({"args": ["a", "b"]}, {"args": ["b", "a"]}),
        ({"a": {"b": 1}}, {"a": None}),
        ({"a": [1]}, {"a": "x"}),
    ],
)
def test_different(wanted: Any, live: Any) -> None:
    assert not matches(wanted, live)


def test_quantities() -> None:
    assert quantity("500m") == quantity("0.5")
    assert quantity("1k") == 1000
    assert quantity("1Ki") == 1024
    assert quantity("x") is None
