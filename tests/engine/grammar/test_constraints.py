"""The field of the parameters: exactly one kind, and its outer form."""

from typing import Any

import pytest

from lepton_engine import SamplingParams
from lepton_engine.errors import InvalidRequestError
from lepton_engine.structured_outputs import MAX_BYTES, StructuredOutputs

BAD: list[tuple[Any, str, str]] = [
    ({}, "", "holds nothing, exactly one"),
    ({"json": "{}", "regex": "a"}, "", "holds json and regex"),
    ({"schema": "{}"}, "", "'schema' is not one of json, regex, grammar, choice"),
    ("a+", "", "str is no StructuredOutputs"),
    ({"json": "{"}, ".json", "is not JSON"),
    ({"json": "[1]"}, ".json", "an object, true or false is required"),
    ({"json": ""}, ".json", "'' is not a non-empty text"),
    ({"json": 5}, ".json", "int is no JSON Schema"),
    ({"json": {"a": object()}}, ".json", "cannot be written as JSON"),
    ({"json": {"minimum": float("nan")}}, ".json", "cannot be written as JSON"),
    ({"json": {"const": "x" * MAX_BYTES}}, ".json", "at most 131072 are allowed"),
    ({"regex": ""}, ".regex", "'' is not a non-empty text"),
    ({"regex": 5}, ".regex", "is not a text"),
    ({"regex": "a" * (MAX_BYTES + 1)}, ".regex", "has 131073 bytes"),
    ({"regex": "\ud800"}, ".regex", "lone surrogate"),
    ({"grammar": ""}, ".grammar", "non-empty"),
    ({"choice": []}, ".choice", "is empty"),
    ({"choice": "abc"}, ".choice", "str is not a list of texts"),
    ({"choice": ["a", ""]}, ".choice[1]", "non-empty"),
    ({"choice": ["a", 1]}, ".choice[1]", "is not a text"),
    ({"choice": [str(number) for number in range(4097)]}, ".choice", "at most 4096"),
    ({"choice": [f"{i}" + "x" * 70_000 for i in range(2)]}, ".choice", "has 140002 bytes"),
]


@pytest.mark.parametrize(("given", "field", "reason"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_constraints_name_their_field(given: Any, field: str, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason) as caught:
        SamplingParams(structured_outputs=given)
    assert caught.value.field == f"sampling_params.structured_outputs{field}"


def test_mappings_become_constraints() -> None:
    params = SamplingParams(structured_outputs={"choice": ["a", "b"]})  # type: ignore[arg-type]
    assert params.structured_outputs == StructuredOutputs(choice=("a", "b"))
    assert params.structured_outputs.kind == "choice"
    assert SamplingParams().structured_outputs is None
