"""What people answer with, language by language: yes, no and perhaps, how they deny, and "the answer is".

The table is answer_words.json beside this file; words are compared in NFKC and `normalise`d.
"""

import json
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from polylens.languages import related_codes
from polylens.text import normalise


@dataclass(frozen=True)
class AnswerWords:
    """`denials` make what a clause names no answer; `phrases` stand in front of an answer, or of its letter."""

    yes: frozenset[str]
    no: frozenset[str]
    maybe: frozenset[str]
    denials: frozenset[str]
    phrases: frozenset[str]


_TABLE: dict[str, dict[str, list[str]]] = json.loads(
    files("polylens").joinpath("answer_words.json").read_text(encoding="utf-8")
)
# Denials of one language that are quite other words elsewhere: they count only where the language is known.
_AMBIGUOUS = frozenset(
    "ni la si ba ne na pa sin sem be ma ei may ur mana ez jo hin sen cap "
    "pas ket nu po dim ala sense ej ani lain miti sanes 안 gan nach hana".split()
) | {"no be"}


def answer_words(code: str = "") -> AnswerWords:
    """The words of a language and of English; without a code, those of all languages that mean one thing only.

    A language without words of its own takes those of its macrolanguage, else English alone.
    """
    if not code:
        return _all_words()
    own = next((known for known in related_codes(code) if known in _TABLE), "en")
    return _merged(own, "en")


@cache
def _merged(*codes: str) -> AnswerWords:
    rows = [_TABLE[code] for code in codes]
    kinds = ("yes", "no", "maybe", "denials", "phrases")
    return AnswerWords(*(frozenset(_plain(word) for row in rows for word in row[kind]) for kind in kinds))


@cache
def _all_words() -> AnswerWords:
    every, english = _merged(*_TABLE), _merged("en")
    kinds = (every.yes, every.no, every.maybe)
    yes, no, maybe = (
        frozenset(word for word in kind if sum(word in other for other in kinds) == 1) | own
        for kind, own in zip(kinds, (english.yes, english.no, english.maybe), strict=True)
    )
    return AnswerWords(yes, no, maybe, (every.denials - _AMBIGUOUS) | english.denials, every.phrases)


def _plain(word: str) -> str:
    return normalise(unicodedata.normalize("NFKC", word))
