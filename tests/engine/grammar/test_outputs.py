"""Outputs of models of random weights: whatever they would write, what comes out has the form, or was cut off."""

import json
import random
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from lepton_engine import AsyncLeptonEngine, LeptonEngine, SamplingParams, embedded
from lepton_engine.config import SpeculationSettings
from lepton_engine.errors import InvalidRequestError
from lepton_engine.kernels.cpu import native
from lepton_engine.outputs import CompletionOutput
from lepton_engine.structured_outputs import StructuredOutputs

Check = Callable[[str], bool]


def matches(pattern: str) -> Check:
    return lambda text: re.fullmatch(pattern, text) is not None


def is_json(check: Callable[[Any], bool]) -> Check:
    def valid(text: str) -> bool:
        try:
            return check(json.loads(text))
        except ValueError:
            return False

    return valid


def is_person(value: Any) -> bool:
    return (
        set(value) == {"name", "age", "tags"}
        and len(value["name"]) <= 8
        and 0 <= value["age"] <= 120
        and len(value["tags"]) <= 2
        and set(value["tags"]) <= {"a", "b"}
    )


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2}},
    "$ref": "#/$defs/tree",
}
DATE = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
TABLE: list[tuple[StructuredOutputs, Check]] = [
    (StructuredOutputs(json=PERSON), is_json(is_person)),
    (StructuredOutputs(json={"type": "boolean"}), is_json(lambda value: isinstance(value, bool))),
    (StructuredOutputs(json={"enum": [1, "zwei", None, [3]]}), is_json(lambda value: value in [1, "zwei", None, [3]])),
    (StructuredOutputs(json={"const": {"a": "猫"}}), is_json(lambda value: value == {"a": "猫"})),
    (
        StructuredOutputs(json={"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
        is_json(lambda value: 0 < value <= 1),
    ),
    (
        StructuredOutputs(json={"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^[ab]{3}$"}]}),
        is_json(lambda value: value is None or re.fullmatch("[ab]{3}", value) is not None),
    ),
    (StructuredOutputs(json=TREE), is_json(lambda value: isinstance(value, list))),
    (StructuredOutputs(json=True), is_json(lambda value: True)),
    (StructuredOutputs(json={"type": "string", "format": "date"}), is_json(matches(DATE))),
    (StructuredOutputs(regex="yes|no"), matches("yes|no")),
    (StructuredOutputs(regex=r"[0-9]{2,4}(,[0-9])?"), matches(r"[0-9]{2,4}(,[0-9])?")),
    (StructuredOutputs(regex="(ab)*c?"), matches("(ab)*c?")),
    (StructuredOutputs(regex="é{1,3}猫"), matches("é{1,3}猫")),
    (
        StructuredOutputs(choice=["a", "ab", "abc", "b(c)*", "猫"]),
        lambda text: text in {"a", "ab", "abc", "b(c)*", "猫"},
    ),
    (StructuredOutputs(grammar='start: "(" start ")" | "x"'), matches(r"\(*x\)*")),
    (StructuredOutputs(grammar='start: WORD ("," WORD)*\nWORD: /[a-c]{1,2}/'), matches("[a-c]{1,2}(,[a-c]{1,2})*")),
]
LONG: tuple[StructuredOutputs, Check] = (StructuredOutputs(regex="[ab]{40,75}c"), matches("[ab]{40,75}c"))
IDS = [f"{constraint.kind} {i}" for i, (constraint, _) in enumerate(TABLE)]


def params(constraint: StructuredOutputs | None, **fields: Any) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 60, "structured_outputs": constraint, **fields})


@pytest.fixture(scope="module")
def engine(tiny: Any) -> Any:
    with LeptonEngine(tiny, kv_cache_memory=1 << 20, num_threads=1, seed=1) as made:
        yield made
        assert made.integrity() == []


def check(output: CompletionOutput, valid: Check) -> bool:
    """Whether an output is whole; one that is not was cut off."""
    assert output.finish_reason in ("stop", "length")
    if output.finish_reason == "length":
        return False
    assert valid(output.text), output.text
    return True


@pytest.mark.parametrize(("constraint", "valid"), TABLE, ids=IDS)
def test_outputs_have_the_form(engine: LeptonEngine, constraint: StructuredOutputs, valid: Check) -> None:
    whole = 0
    for temperature, seed in ((0.0, 1), (1.0, 2), (3.0, 3)):
        outputs = engine.generate(["a", "b {"], params(constraint, temperature=temperature, seed=seed, n=2))
        whole += sum(check(part, valid) for output in outputs for part in output.outputs)
    assert whole or constraint.kind == "grammar" or constraint.json in ("true", TABLE[6][0].json), (
        "some come to their end"
    )


def test_many_kinds_at_once_with_everything_else(engine: LeptonEngine) -> None:
    r = random.Random(5)
    wanted: list[tuple[SamplingParams, Check | None]] = []
    for number in range(40):
        constraint, valid = r.choice([*TABLE, (None, None)])
        more: dict[str, Any] = r.choice(
            [{}, {"logit_bias": {7: 3.0}}, {"top_k": 5}, {"top_p": 0.7}, {"presence_penalty": 1.0}, {"min_p": 0.1}]
        )
        wanted.append(
            (params(constraint, seed=number, n=r.choice([1, 2]), logprobs=r.choice([None, 2]), **more), valid)
        )
    outputs = engine.generate(["abc" * r.randrange(1, 9) for _ in wanted], [params_ for params_, _ in wanted])
    for output, (_, valid) in zip(outputs, wanted, strict=True):
        for part in output.outputs:
            if valid is not None:
                check(part, valid)
    # A seed gives the same tokens whatever else runs.
    if native() is not None:
        again = engine.generate("abc", wanted[0][0])[0].outputs
        assert again[0].token_ids == engine.generate("abc", wanted[0][0])[0].outputs[0].token_ids


@pytest.mark.parametrize("speculation", [None, "ngram", "draft"])
def test_company_preemption_and_speculation_change_nothing(
    engine_over: Callable[..., LeptonEngine], tiny: Any, speculation: str | None
) -> None:
    if native() is None:
        pytest.skip("batch invariance needs the native kernels")
    settings = (
        None
        if speculation is None
        else SpeculationSettings(speculation, 4, str(tiny) if speculation == "draft" else None)
    )
    r = random.Random(9)
    asked = []
    for number in range(24):
        constraint, valid = r.choice([*TABLE, *[LONG] * len(TABLE)])
        fields = {"seed": number, "n": r.choice([1, 1, 2]), "temperature": r.choice([0.0, 0.5, 1.0]), "max_tokens": 80}
        asked.append(("ab" * r.randrange(1, 12), params(constraint, **fields), valid))
    prompts, sampling = [prompt for prompt, _, _ in asked], [fields for _, fields, _ in asked]
    plain = engine_over(batch_invariant=True)
    expected = [plain.generate(prompt, own)[0].outputs for prompt, own in zip(prompts, sampling, strict=True)]
    tight = engine_over(batch_invariant=True, speculation=settings, max_num_seqs=6, kv_cache_memory=1 << 16)
    found = [output.outputs for output in tight.generate(prompts, sampling)]
    assert [[part.token_ids for part in parts] for parts in found] == [
        [p.token_ids for p in parts] for parts in expected
    ]
    assert [[part.finish_reason for part in parts] for parts in found] == [
        [p.finish_reason for p in ps] for ps in expected
    ]
    for parts, (_, _, valid) in zip(found, asked, strict=True):
        for part in parts:
            check(part, valid)
    stats = tight.stats()
    assert stats.num_preemptions > 0
    if speculation == "draft":
        assert stats.accepted_tokens > 0


def test_the_end_of_a_grammar(engine: LeptonEngine) -> None:
    """Where nothing can follow the output ends, though end-of-sequence is ignored and min_tokens are not reached."""
    extra: dict[str, Any]
    for extra in ({}, {"ignore_eos": True}, {"min_tokens": 50}, {"ignore_eos": True, "min_tokens": 50}):
        (part,) = engine.generate("x", params(StructuredOutputs(choice=["yes"]), **extra))[0].outputs
        assert (part.text, part.finish_reason, part.stop_reason, len(part.token_ids)) == ("yes", "stop", None, 3)
    open_end = StructuredOutputs(regex="(ab)+")
    (part,) = engine.generate("x", params(open_end, ignore_eos=True, max_tokens=21))[0].outputs
    assert (part.text, part.finish_reason) == ("ab" * 10 + "a", "length")
    (part,) = engine.generate("x", params(open_end, min_tokens=9, max_tokens=40, logit_bias={256: 50.0}))[0].outputs
    assert (part.text, part.finish_reason) == ("ab" * 5, "stop"), "the first place where it may end"


def test_stop_strings_and_stop_tokens(engine: LeptonEngine) -> None:
    constraint = StructuredOutputs(regex="a{30}")
    (part,) = engine.generate("x", params(constraint, stop=["aaaa"]))[0].outputs
    assert (part.text, part.finish_reason, part.stop_reason) == ("", "stop", "aaaa")
    (a,) = engine.tokenizer.encode("a")
    (part,) = engine.generate("x", params(constraint, stop_token_ids=[a]))[0].outputs
    assert (part.token_ids, part.finish_reason, part.stop_reason) == ([a], "stop", a)


def test_log_probabilities_are_of_what_is_allowed(engine: LeptonEngine) -> None:
    constraint = StructuredOutputs(regex="[ab]{5}")
    (part,) = engine.generate("x", params(constraint, logprobs=2, seed=1))[0].outputs
    assert part.logprobs is not None
    ids = set(engine.tokenizer.encode("ab"))
    for row in part.logprobs:
        assert set(row) == ids
        assert sum(2.718281828459045**entry.logprob for entry in row.values()) == pytest.approx(1.0, abs=1e-4)


DEAD_ENDS: list[dict[str, Any]] = [
    {"bad_words": ["aa"]},
    {"allowed_token_ids": [5]},
    {"allowed_token_ids": [5], "n": 2},
    {"stop_token_ids": [64], "min_tokens": 2},
]


@pytest.mark.parametrize("fields", DEAD_ENDS)
def test_a_dead_end_is_an_error_that_names_it(engine: LeptonEngine, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="forbid every token") as caught:
        engine.generate("x", params(StructuredOutputs(regex="aaa"), **fields))
    assert caught.value.field == "sampling_params.structured_outputs.regex"
    assert engine.stats().num_running == 0
    assert engine.generate("x", params(StructuredOutputs(regex="aaa")))[0].outputs[0].text == "aaa"


def test_a_grammar_beyond_its_limits_fails_alone(engine: LeptonEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask that costs more than it may ends its request; the grammar is not kept, the others go on."""
    from llguidance import LLParserLimits

    from lepton_engine.grammar import compiler

    narrow = LLParserLimits(max_lexer_states=40, verbose_errors=False)
    monkeypatch.setattr(compiler, "limits", lambda: narrow)
    with pytest.raises(InvalidRequestError) as caught:
        engine.generate("x", params(StructuredOutputs(regex="(abcdefghi|jklmnopqr|[a-z]{40}[0-9])*xyz[a-z]{50}")))
    assert caught.value.field.startswith("sampling_params.structured_outputs")
    monkeypatch.undo()
    assert engine.generate("x", params(StructuredOutputs(regex="aaa")))[0].outputs[0].text == "aaa"


async def test_in_a_process_of_its_own(tiny: Any) -> None:
    """Constraints travel as text; errors come back with their field."""
    engine = AsyncLeptonEngine(tiny, in_process=False, num_threads=1, kv_cache_memory=1 << 20)
    await engine.start()
    try:
        asked = params(StructuredOutputs(json=PERSON), seed=4, temperature=0.0)
        texts = [output async for output in engine.generate("x", asked)]
        check(texts[-1].outputs[0], is_json(is_person))
        with pytest.raises(InvalidRequestError, match="Unsatisfiable") as caught:
            async for _ in engine.generate(
                "x", params(StructuredOutputs(json={"type": "integer", "minimum": 2, "maximum": 1}))
            ):
                pass
        assert caught.value.field == "sampling_params.structured_outputs.json"
    finally:
        await engine.shutdown()


def test_the_embedded_model() -> None:
    with LeptonEngine(embedded.path(), kv_cache_memory=16 << 20, num_threads=1, seed=1) as engine:
        prompt = "Once upon a time"
        for seed in range(3):
            for constraint, valid in TABLE[:3] + TABLE[9:12] + TABLE[13:14]:
                output = engine.generate(prompt, params(constraint, seed=seed, max_tokens=200))[0].outputs[0]
                assert check(output, valid)


def test_the_message_s_form() -> None:
    """Parameters that cross processes stay what they were."""
    for constraint, _ in TABLE:
        sent = msgspec.msgpack.encode(params(constraint))
        assert msgspec.msgpack.decode(sent, type=SamplingParams) == params(constraint)
