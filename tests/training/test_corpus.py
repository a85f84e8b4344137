"""The corpus: the same documents every time, varied, without the combinations that are held out."""

from __future__ import annotations

import re

from training.embedded.corpus import Document, corpus, document, held_out, held_out_pairs, mentions_held_out
from training.embedded.prompts import UNSEEN

DOCUMENTS = list(corpus(1, 1200))


def test_documents_depend_only_on_seed_and_index() -> None:
    assert [document(1, index) for index in range(30)] == DOCUMENTS[:30]
    assert document(1, 700) == DOCUMENTS[700]
    assert document(2, 0) != DOCUMENTS[0]


def test_no_document_mentions_a_held_out_pair() -> None:
    pairs = {language: held_out_pairs(language) for language in ("zh", "en")}
    for each in DOCUMENTS:
        text = each.plain().lower().replace("music school", "academy")  # another place than the school
        for who, place in pairs[each.language]:
            if each.language == "zh":
                together = who in text and place in text
            else:
                together = all(re.search(rf"\b{re.escape(name.lower())}\b", text) for name in (who, place))
            assert not together, (who, place, each)


def test_held_out_pairs_are_some_of_all() -> None:
    for language in ("zh", "en"):
        pairs = held_out_pairs(language)
        assert 100 < len(pairs) < 600
        assert all(held_out(who, place) for who, place in pairs)


def test_the_unseen_prompts_hold_held_out_pairs() -> None:
    assert len(UNSEEN) == 20
    for entry in UNSEEN:
        assert mentions_held_out(entry.language, entry.prompt), entry


def test_a_text_with_a_held_out_pair_is_noticed() -> None:
    assert mentions_held_out("zh", "外婆带我去了图书馆。")
    assert not mentions_held_out("zh", "外婆带我去了一个地方。")
    assert mentions_held_out("en", "Henry saw an elephant at the zoo.")


def test_both_languages_and_both_kinds_are_common() -> None:
    kinds = [(each.language, bool(each.text)) for each in DOCUMENTS]
    for language in ("zh", "en"):
        for story in (True, False):
            assert kinds.count((language, story)) > 150


def test_openings_vary_and_no_document_repeats() -> None:
    stories = [each.text for each in DOCUMENTS if each.text]
    assert len(set(stories)) == len(stories)
    assert len({story[:12] for story in stories}) > len(stories) * 0.5


def test_the_seed_prompt_is_common_in_kind() -> None:
    assert sum("我" in each.text[:8] and "去了" in each.text[:12] for each in DOCUMENTS if each.language == "zh") > 20


def test_conversations_alternate_and_end_with_an_answer() -> None:
    for each in DOCUMENTS:
        if each.messages:
            roles = [role for role, _ in each.messages if role != "system"]
            assert roles == ["user", "assistant"] * (len(roles) // 2)
            assert each.messages[-1][0] == "assistant"


def test_a_document_is_a_story_or_a_conversation() -> None:
    made = Document("en", messages=(("user", "Hello!"), ("assistant", "Hi!")))
    assert made.chat() == [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hi!"}]
    assert made.plain() == "Hello!\nHi!"
