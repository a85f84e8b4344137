# ruff: noqa: E501  (tables and templates read better whole)
"""Is this Chinese sentence well formed? A lexicon and a grammar of their own; the corpus's code is not used."""

from __future__ import annotations

import re
from collections import defaultdict

from training.embedded.lexicon_zh import build
from training.embedded.patterns import Grammar

_LEXICON = dict(build())
_LEXICON.update(
    {"，": frozenset({"comma"}), "、": frozenset({"pause"}), "：": frozenset({"colon"}), "Q": frozenset({"quote"})}
)
_LONGEST = max(map(len, _LEXICON))

_RULES = {
    "NUMM": "<num> <num>? <measure> | <many>",
    "PERSON": "<pron> | <name> | <kin>",
    "PLACEWORD": "(@PERSON <de>?)? (<place> <loc>? | <noun> <loc>)",
    "MOD": "<quote> <de> | <adv>? <deg>? <modal>? <v> <noun>? <de> | <wh> <de> | @PERSON <de>? | @NUMM | <attr> | <deg>? <adj> <de> | @PLACEWORD <de> | <time> <de> | <noun> <de> | <v> <noun> <de> | <v> <de> | <wh>",
    "NOUN1": "@MOD* (<noun> | <place> | <kin>) | <kin>? <name> | @PERSON | <num> <measure> | <many> | @MOD* <attr> <de>? | <quote> | <wh> | <age> | <time> <de> <time>",
    "NOUN": "@NOUN1 ((<pause> @NOUN1)* <and> @NOUN1)? | @NOUN1 (<pause> @NOUN1)+ | <prep> @NOUN1 <de> @NOUN1 | @NUMM <prep> @NOUN1 <de> @NOUN1 | @NOUN1 <shihou>",
    "LOC": "@LOC1 (<pause> @LOC1)?",
    "LOC1": "@MOD* (<place> | <noun>) <loc>? | @PERSON <loc>?",
    "WHERE": "<zai> @LOC",
    "WITH": "<prep> (@NOUN | @LOC)",
    "ADVERB": "<adv> | <time> | @WHERE | @WITH | <adj> <di> | <dur> | <ba> @NOUN | <bi> @NOUN | <jiu>",
    "VERB": "<v> <res>? | <v> <v>",
    "CORE": """@VERB <asp>? <dur>? (@NOUN | @LOC)? | <give> <asp>? @PERSON (@NOUN | <dur>) | <give> <asp>? <quote> | <vo> <asp>? <dur>? | <v> <asp> <dur>
        | <v> <yi> <v> | @VERB <asp>? @NOUN <adv>? <dur> <asp>?""",
    "ACTION": "@ADVERB* (<deg>? <modal> @ADVERB* <modal>? @ADVERB*)? (@CORE | <v> <noun>? <dey> (<deg>* <adj> | @ACTION | <adv> <adj>))",
    "QUALITY": "@ADVERB* <modal>? (<deg>* <adj> (<ji> | <asp>)? | <deg>? <adj> <dey> (@ACTION | <adv>? <adj>) | <wh>)",
    "BEING": "@ADVERB* <modal>? (<shi> <measure>? (@NOUN | @ACTION | <time>) <de>? | <you> @NOUN @ACTION? | <age>) | @ADVERB* @WHERE",
    "PREDICATE": "@ACTION ((<pause> @ACTION)* <and> @ACTION | (<pause> @ACTION)+)? | @ACTION (@ACTION @ACTION? | @QUALITY)? | @QUALITY | <deg> <adj> @ACTION | @BEING",
    "SUBJECT": "@NOUN | @LOC",
    "FRAME": "<conj>? (<conj> | <adv>)? ((<time> | @WHERE | <dur> | @WITH | <place>) <comma>?)*",
    "CLAUSE": """@FRAME @SUBJECT? <conj>? <time>? (@PREDICATE | @ADVERB* <modal>? <v> @SUBJECT @PREDICATE) <sfp>?
        | @FRAME @LOC <adv>* <you> @NOUN @ACTION?
        | @FRAME @SUBJECT @ADVERB* <adj>? <shuo> <asp>? <colon>? (<quote> | @NOUN | @CLAUSE)
        | @FRAME @SUBJECT @NOUN <deg> <adj>
        | @FRAME @SUBJECT <adv>? @NUMM
        | @FRAME (<time> | <dur>) | @FRAME @SUBJECT? @PREDICATE <shihou> | @NOUN <shihou> | <adv>""",
    "SENTENCE": "@CLAUSE (<comma> @CLAUSE | <colon> (@NOUN | @CLAUSE | <quote>))*",
}
_GRAMMAR = Grammar(_RULES)
_FIXED = re.compile(
    r"你好|嗨，你好|您好|(?:早上|晚上)好|再见|晚安|谢谢|谢谢你|谢谢您|太?谢谢[你您]了|不客气|不用谢|对不起|没关系|(?:真|太|很)?好[了啊]?|真漂亮|加油|(?:太|真)好了"
    r"|人没事就好|好久不见|别着急|没事|当然|是的|不是|不要怕|慢慢来"
)


def split(text: str) -> list[str]:
    """Split text into sentences: after a final mark outside quotation marks, or after a quotation that ends with one."""
    sentences, current, depth = [], "", 0
    for position, sign in enumerate(text):
        current += sign
        depth += {"“": 1, "”": -1}.get(sign, 0)
        after = text[position + 1 : position + 2]
        closes = (
            sign == "”"
            and position > 0
            and text[position - 1] in "。！？"
            and after not in ("，", "。", "的", "是", "、")
        )
        if depth <= 0 and (sign in "。！？\n" or closes):
            sentences.append(current.strip())
            current = ""
    return [sentence for sentence in [*sentences, current.strip()] if sentence]


def _arcs(text: str) -> list[dict[str, frozenset[int]]]:
    arcs = []
    for start in range(len(text)):
        ends: dict[str, set[int]] = defaultdict(set)
        for end in range(start + 1, min(len(text), start + _LONGEST) + 1):
            for kind in _LEXICON.get(text[start:end], ()):
                ends[kind].add(end)
        arcs.append({kind: frozenset(found) for kind, found in ends.items()})
    return arcs


def _repeats(text: str) -> bool:
    """Whether a word stands twice in a row, other than inside a longer word such as 慢慢地."""
    for match in re.finditer(r"(?=([\u4e00-\u9fff]{1,4})\1)", text):
        size = len(match[1])
        start = match.start()
        if match[1] == "天":
            continue  # 那天天气: two words that meet in one character
        inside = any(
            text[begin:end] in _LEXICON
            for begin in range(max(0, start - 3), start + 1)
            for end in range(start + 2 * size, min(len(text), start + 2 * size + 4) + 1)
        )
        if not inside:
            return True
    return False


def well_formed(sentence: str) -> bool:
    """Whether ``sentence`` (with its final mark) is well-formed Chinese.

    It must end with one of ``。！？``, hold Chinese characters and Chinese punctuation only, use known words only, repeat none
    right after itself, and match the grammar. A quotation in it must hold sentences that are well formed themselves.
    """
    if re.search(r"[^\u4e00-\u9fff，、：；。！？“”]", sentence) or sentence.count("“") != sentence.count("”"):
        return False
    for quoted in re.findall(r"“([^”]*)”", sentence):
        if quoted not in _LEXICON and not all(
            well_formed(part) for part in split(quoted if quoted[-1:] in tuple("。！？") else quoted + "。")
        ):
            return False
    outer = re.sub(r"“[^”]*”", "Q", sentence)
    if outer[-1:] in tuple("。！？"):
        outer = outer[:-1]
    elif not outer.endswith("Q"):
        return False
    if re.search(r"[。！？]", outer) or not outer:
        return False
    parts = outer.split("，")
    while parts and _FIXED.fullmatch(parts[0]):
        parts = parts[1:]
    outer = "，".join(parts)
    if not outer:
        return True
    if _repeats(outer):
        return False
    return _GRAMMAR.matches(_arcs(outer))
