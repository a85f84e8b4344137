# ruff: noqa: E501  (tables and templates read better whole)
"""Is this English sentence well formed? A lexicon and a regular grammar of their own; the corpus's code is not used."""

from __future__ import annotations

import re
from itertools import pairwise

from training.embedded.lexicon_en import build
from training.embedded.patterns import Grammar

_LEXICON = dict(build())
# Punctuation and quotations take part in the grammar as words of their own.
_LEXICON.update(
    {",": frozenset({"comma"}), ";": frozenset({"semi"}), ":": frozenset({"colon"}), "QUOTE": frozenset({"quote"})}
)
_LEXICON["'s"] = frozenset({"genitive"})
_PHRASES = sorted((word for word in _LEXICON if " " in word), key=len, reverse=True)

_RULES = {
    "MOD": "(<intens>? <adj> (<and>? <adj>)?)?",
    "OWNER": "<det>? <name> <genitive> | <det> <noun> <genitive> | <det> <title> <name> <genitive>",
    "ONE": """(<det1> | <det> | @OWNER) @MOD <num>? <adj>? (<noun> | <mass>)? <noun> | <det>? <title>* <name> <name>?
        | (<det> | @OWNER)? @MOD <noun>? <mass> | <adj>? <language> | <day>""",
    "MANY": "(<det> | @OWNER | <detp>)* @MOD (<noun> | <mass>)? <plural>",
    "OF": "(<prep> (@ONE | @MANY | <quote> | <obj>))?",
    "NP": "(@ONE | @MANY) @OF | <obj> @OF | <he>",
    "NPS": "@NP ((<comma> @NP)* <and> @NP)?",
    "TIME": """<adj> (<noun> | <day>) | <det1> <adj>? (<noun> | <day>) <noun>? | (<detp> | <det1>) (<plural> | <noun>) <adv>
        | <day> <noun>? | <mass> <noun>? | <det> <adj>? <noun> | <detp> <plural> | <det1> <adj>? <noun>""",
    "PP": "<prep> (@NPS | <ing> @NP? | <adj> | <num>) | <intens>? <adv> | @TIME",
    "PPS": "(@PP (<and>? @PP)*)?",
    "COMP": "(<adv>? @NPS @NP?)? (<intens>? <adj> (<and> <intens>? <adj>)*)? @PPS",
    "INF": "<adv>? <base> @COMP (@TOINF | <wh> @TOINF | @GERUND)? | <be> @COMP",
    "TOINF": "<to> @INF (<and> <to>? @INF)?",
    "GERUND": "<ing> @COMP (<and> <ing> @COMP)?",
    "TAIL": "@COMP (<so> @CLAUSE | @TOINF | <wh> @TOINF | @GERUND | <comma>? <quote> | <comma>? <adj>)? @PPS",
    "BE_TAIL": "<not>? (@GERUND | <en> @TAIL | @COMP @TOINF? (<so> @CLAUSE)? | @NPS @WHO | <quote> | @TOINF | <neither> <adj> <and> <adj>)",
    "MODAL": "<modal> <adv>? <not>? (@INF ((<comma> @INF)* <and> <modal>? @INF)? | <be> @BE_TAIL)",
    "PAST": "<adv>* (<past> @TAIL | <had> <adv>? <not>? <en> @TAIL | <had> @TAIL | <did> <not>? @INF @TOINF? | @MODAL)",
    "VP_HE": "(@PAST | <adv>* (<was> | <is>) @BE_TAIL | <adv>* (<z> @TAIL | <has> (<adv>? <not>? <en>)? @TAIL | <does> <not>? @INF @TOINF?))",
    "VP_THEY": "(@PAST | <adv>* (<were> | <are>) @BE_TAIL | <adv>* (<base> @TAIL | <have> (<adv>? <not>? <en>)? @TAIL | <do> <not>? @INF @TOINF?))",
    "VP_I": "(@PAST | <adv>* (<was> | <am>) @BE_TAIL | <adv>* (<base> @TAIL | <have> (<adv>? <not>? <en>)? @TAIL | <do> <not>? @INF @TOINF?))",
    "VPS_HE": "@VP_HE ((<comma> @VP_HE)* <comma>? <and> <adv>? @VP_HE)*",
    "VPS_THEY": "@VP_THEY ((<comma> @VP_THEY)* <comma>? <and> <adv>? @VP_THEY)*",
    "VPS_I": "@VP_I ((<comma> @VP_I)* <comma>? <and> <adv>? @VP_I)*",
    "WHO": "(<he> (@PAST | <was> @BE_TAIL | <z> @TAIL))?",
    "CLAUSE": """(@ONE | <he>) @OF @WHO @VPS_HE
        | (@MANY @OF | <they> | @NP (<comma> @NP)* <and> (@NP | <i>)) @VPS_THEY
        | <i> @VPS_I
        | @PP <past> @NP
        | <there> <adv>? (<was> | <is>) <adv>? <not>? (@ONE | <det1>? <intens>? <mass>) @PPS @WHO
        | <there> <adv>? (<were> | <are>) <not>? (@MANY @OF | @NP (<comma> @NP)* <and> @NP) @PPS
        | <there> <adv>? <past> @NP @PPS
        | <quote>""",
    "LINK": "<comma>? (<and> | <so>) <adv>? <comma>? | <semi> | <colon>",
    "INTRO": "((@PP | @PP @PP | <so> @GERUND | <to> @INF | <so> @CLAUSE) <comma>? | <and> | <comma> | <thanks> <comma>)?",
    "STATEMENT": "(<i> <am> <adj> <comma>)? @INTRO @CLAUSE (@LINK @INTRO @CLAUSE)* (<comma> <thanks> @PPS | <colon> @NPS)?",
    "INVERTED": """(<did> | <does> | <do> | <modal>) <not>? (@NP | <they> | <i>) @INF @TOINF?
        | (<is> | <was>) (@ONE | <he>) (@COMP | <en> @COMP | @TOINF) | (<are> | <were>) (@MANY | <they> | @NPS) @COMP
        | <am> <i> @COMP | (<are> | <is>) <there>""",
    "QUESTION": """<wh> (<is> @ONE | <are> @MANY | <is> <he>) @OF <prep> | <prep>? <wh> (<noun> | <plural> | <adj> | <mass> | <adv>)? (@INVERTED | @VP_HE | <are> <there>) (<so> @CLAUSE | @TOINF)?
        | @INVERTED (<so> @CLAUSE)?""",
    "IMPERATIVE": "<please>? (@INF | <do> <not>? @INF | <lets> @INF) (<he> <z> @TAIL)? ((<comma>? <so> @CLAUSE) | <and> @INF)?",
    "SENTENCE": "@STATEMENT | @QUESTION | @IMPERATIVE",
}
_GRAMMAR = Grammar(_RULES)

_FIXED = re.compile(
    r"(?:hello|hi|hi there|thanks|goodbye|great|how nice|how beautiful|good idea|good (?:morning|evening|night)|thank you(?: (?:so|very) much)?"
    r"|take your time|no problem|(?:sleep well|see you(?: next time| again)?)|have a nice day|how about [a-z ]+|yes|no|sorry|well done|of course)"
)
_NUMBER = "(?:zero|one|two|three|four|five|six|seven|eight|nine|ten)"
_SUM = re.compile(f"(?:what is )?{_NUMBER} (?:plus|minus) {_NUMBER}(?: is {_NUMBER})?")
_SPLIT_CONTRACTIONS = {"let's": "let's", "it's": "it is", "that's": "that is"}


def _words(text: str) -> list[str]:
    text = re.sub(
        r"\b(let's|it's|that's)\b", lambda match: _SPLIT_CONTRACTIONS[match[1].lower()], text, flags=re.IGNORECASE
    )
    found: list[str] = []
    for word in re.findall(r"let's|Let's|[A-Za-z]+(?:-[a-z]+)*(?:'t)?|'s|[,;:]|\S", text):
        if word in ("QUOTE", "I", ",") or (word in _LEXICON and word[0].isupper()):
            found.append(word)
        else:
            found.append(word.lower())
    joined = " ".join(found)
    for phrase in _PHRASES:
        if phrase in joined:
            joined = re.sub(rf"\b{phrase}\b", phrase.replace(" ", "_"), joined)
    return [word.replace("_", " ") for word in joined.split()]


def _classes(words: list[str]) -> list[frozenset[str]] | None:
    found = []
    for number, word in enumerate(words):
        kinds = _LEXICON.get(word) or (_LEXICON.get(word.lower()) if number == 0 else None)
        if kinds is None:
            return None
        found.append(kinds)
    return found


def _articles_fit(words: list[str]) -> bool:
    for word, after in pairwise(words):
        if word == "a" and after[0].lower() in "aeiou":
            return False
        if word == "an" and after[0].lower() not in "aeiouh":
            return False
    return True


def well_formed(sentence: str) -> bool:
    """Whether ``sentence`` (with its final mark) is well-formed English.

    It must start with a capital, end with one of ``.!?``, use known words only, have ``a`` and ``an`` where they belong, repeat
    no word, and match the grammar: word order, agreement of subject and verb, verb forms. A quotation in it must hold
    sentences that are well formed themselves.
    """
    if re.search(r"[^A-Za-z ,.;:!?'\"-]", sentence) or not re.match(r'"?[A-Z]', sentence):
        return False
    if sentence.count('"') % 2:
        return False
    for quoted in re.findall(r'"([^"]*)"', sentence):
        word = re.fullmatch(r"[a-z]+", quoted)
        if not word and not all(
            well_formed(part) for part in split(quoted if quoted[-1:] in tuple(".!?") else quoted + ".")
        ):
            return False
    outer = re.sub(r'"[^"]*"', " QUOTE ", sentence).strip()
    if not outer.endswith("QUOTE"):
        if outer[-1:] not in (".", "!", "?"):
            return False
        outer = outer[:-1]
    if re.search(r"[.!?]", outer):
        outer = outer.replace("Mr.", "Mr")
        if re.search(r"[.!?]", outer):
            return False
    if _FIXED.fullmatch(outer.strip().lower()) or _SUM.fullmatch(outer.strip().lower()):
        return True
    words = _words(outer)
    if not words or not _articles_fit(words):
        return False
    if any(a.lower() == b.lower() for a, b in pairwise(words)):
        return False
    classes = _classes(words)
    return classes is not None and _GRAMMAR.matches(
        [dict.fromkeys(kinds, frozenset((at + 1,))) for at, kinds in enumerate(classes)]
    )


def split(text: str) -> list[str]:
    """Split text into sentences: after a final mark, or after a quotation that ends with one if a capital follows."""
    sentences, current, inside = [], "", False
    for position, sign in enumerate(text):
        current += sign
        if sign == '"':
            inside = not inside
        ends = sign in ".!?" and not inside
        closes = (
            sign == '"'
            and not inside
            and text[position - 1] in ".!?"
            and re.match(r"\s+[A-Z]|\s*$", text[position + 1 :])
        )
        if ends or closes:
            sentences.append(current.strip())
            current = ""
    return [*sentences, current.strip()] if current.strip() else sentences
