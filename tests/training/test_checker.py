"""The checkers accept well-formed sentences (the corpus's too) and reject most of what is broken."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable
from pathlib import Path

import pytest

import training.embedded
from training.embedded import checker_en, checker_zh
from training.embedded.corpus import corpus
from training.embedded.evaluate import split, well_formed
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


def _sentences(language: str, count: int) -> list[str]:
    found: list[str] = []
    for document in corpus(4, 400):
        if document.language == language:
            for text in [document.text] if document.text else [content for _, content in document.messages]:
                found += split(language, text)
    return random.Random(0).sample(found, count)


def _accepted(language: str, sentences: list[str]) -> float:
    return sum(well_formed(language, each) for each in sentences) / len(sentences)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_corpus_is_accepted(language: str) -> None:
    assert _accepted(language, _sentences(language, 150)) >= 0.97


def _shuffled(words: list[str], rng: random.Random) -> list[str]:
    return rng.sample(words, len(words))


def _doubled(words: list[str], rng: random.Random) -> list[str]:
    at = rng.randrange(len(words))
    return [*words[: at + 1], *words[at:]]


def _broken(language: str, breaking: Callable[[list[str], random.Random], list[str]]) -> list[str]:
    rng = random.Random(5)
    found = []
    for sentence in _sentences(language, 150):
        if any(sign in sentence for sign in '“"'):
            continue
        body = sentence[:-1]
        words = [body[at : at + 2] for at in range(0, len(body), 2)] if language == "zh" else body.split()
        changed = breaking(words, rng)
        if len(words) < 4 or changed == words:
            continue
        text = ("" if language == "zh" else " ").join(changed)
        found.append(text[0].upper() + text[1:] + sentence[-1])
    return found


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("breaking", [_shuffled, _doubled])
def test_broken_sentences_are_rejected(
    language: str, breaking: Callable[[list[str], random.Random], list[str]]
) -> None:
    assert _accepted(language, _broken(language, breaking)) <= 0.15


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
