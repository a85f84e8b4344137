"""The engine's options on the command line."""

import argparse

import pytest

from lepton_engine import SpeculationSettings
from lepton_engine.errors import InvalidRequestError
from lepton_service.commands.arguments import add_engine_arguments, engine_options


def options(*words: str) -> dict[str, object]:
    parser = argparse.ArgumentParser()
    add_engine_arguments(parser)
    return engine_options(parser.parse_args(words))


def test_neither_is_on_by_default() -> None:
    assert options()["speculation"] is None
    assert options()["batch_invariant"] is False


def test_speculation_and_batch_invariance() -> None:
    words = ["--speculative-method", "ngram", "--speculative-tokens", "6", "--speculative-lookup-max", "5"]
    assert options(*words)["speculation"] == SpeculationSettings("ngram", 6, None, 5, 2)
    assert options("--speculative-model", "small")["speculation"] == SpeculationSettings("draft", 4, "small")
    assert options("--batch-invariant")["batch_invariant"] is True


def test_a_model_that_the_method_has_no_use_for() -> None:
    with pytest.raises(InvalidRequestError, match="speculation"):
        options("--speculative-method", "ngram", "--speculative-model", "small")
