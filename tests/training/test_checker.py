"""The checkers accept well-formed sentences (the corpus's too) and reject most of what is broken."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest

import training.embedded
from training.embedded import checker_en, checker_zh, strictness
from training.embedded.patterns import Grammar, parse

GOOD_EN = """The old man walked slowly along the river.
My sister doesn't like carrots, but she eats them.
There are three cats under the table.
Because it was raining, we stayed at home.
He said, "I am very tired."
What did Anna buy at the market?
I have never seen a lion.""".splitlines()

BAD_EN = """The the cat sat on the mat.
Cat the mat on sat the.
They was happy.
She go to school every day.
He have two dogs.
I saw a elephant.
He ate an banana.
There are a dog in the park.
I saw three dog.
the cat slept.
The cat slept
She went to 公园.
He said, "I am tired.
She enjoyed to the at park.
Yesterday the bought she apples.
He snorfled the blicket.
I is happy.
She are tired.
What did Anna bought?""".splitlines()

GOOD_ZH = """我的妈妈昨天去了超市。
他在公园里看见一只小狗。
因为下雨，我们没有出门。
老师说：“你要认真学习。”
你喜欢吃什么？
她买了三个苹果和两瓶牛奶。""".splitlines()

BAD_ZH = """我我去了公园。
了去公园我今天。
他在在图书馆看书。
公园去我了苹果的。
她买了个三苹果。
的小狗很可爱很。
我今天去了park。
我今天去了公园
他说：“我很累。
天气晴朗很的今天。
因为所以下雨和。
和小红去公园了把。
飕飗的魑魅。
我去了公园，，很高兴。""".splitlines()


@pytest.mark.parametrize("sentence", GOOD_EN)
def test_good_english(sentence: str) -> None:
    assert checker_en.well_formed(sentence)


@pytest.mark.parametrize("sentence", BAD_EN)
def test_bad_english(sentence: str) -> None:
    assert not checker_en.well_formed(sentence)


@pytest.mark.parametrize("sentence", GOOD_ZH)
def test_good_chinese(sentence: str) -> None:
    assert checker_zh.well_formed(sentence)


@pytest.mark.parametrize("sentence", BAD_ZH)
def test_bad_chinese(sentence: str) -> None:
    assert not checker_zh.well_formed(sentence)


def test_split() -> None:
    assert checker_en.split('He said, "Stop! Now." Then he left. Why?') == [
        'He said, "Stop! Now."',
        "Then he left.",
        "Why?",
    ]
    assert checker_zh.split("他说：“好！走吧。”我们走了。真的吗？") == ["他说：“好！走吧。”", "我们走了。", "真的吗？"]


@pytest.fixture(scope="module")
def corpus_sentences() -> dict[str, list[str]]:
    return {each: random.Random(0).sample(strictness.sentences(each, 4, 400), 150) for each in ("zh", "en")}


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_corpus_is_accepted(language: str, corpus_sentences: dict[str, list[str]]) -> None:
    assert strictness.rejected(language, corpus_sentences[language]) <= 0.03


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize(
    ("breaking", "least"),
    [(strictness.shuffled, 0.8), (strictness.doubled, 0.9), (strictness.misspelled, 0.7), (strictness.swapped, 0.45)],
)
def test_broken_sentences_are_rejected(
    language: str, breaking: strictness.Breaking, least: float, corpus_sentences: dict[str, list[str]]
) -> None:
    broken = strictness.broken(language, corpus_sentences[language], breaking)
    assert len(broken) > 80
    assert strictness.rejected(language, broken) >= least


def test_the_checkers_use_none_of_the_generator() -> None:
    folder = Path(training.embedded.__file__).parent
    allowed = {"training.embedded.lexicon_en", "training.embedded.lexicon_zh", "training.embedded.patterns"}
    for name in ("checker_en", "checker_zh", "lexicon_en", "lexicon_zh", "patterns"):
        tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        assert {module for module in imported if module.startswith("training")} <= allowed


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="pattern has"):
        parse("<noun> & <verb>")
    with pytest.raises(ValueError, match="unmatched"):
        parse("<noun>) <verb>")


def test_grammar_tries_all_readings() -> None:
    grammar = Grammar({"SENTENCE": "(<a> <b>?)+ @END", "END": "<c> | <b> <c>"})
    kinds = [{"a"}, {"a", "b"}, {"b"}, {"c"}]
    arcs = [dict.fromkeys(each, frozenset((at + 1,))) for at, each in enumerate(kinds)]
    assert grammar.matches(arcs)
    assert not grammar.matches(arcs[:3])
