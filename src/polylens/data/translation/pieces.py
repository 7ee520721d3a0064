"""A text cut into pieces: sentences to translate, and what must come out as it went in.

Translators lose or change placeholders and do not take several sentences well. So they are never shown a
placeholder, and one sentence at a time; what is between is kept, and all is put together again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import regex

from polylens.answer_words import answer_words
from polylens.data.sentences import SENTENCE_GAP
from polylens.languages import language
from polylens.text import SPACED_WORD, UNSPACED, WORD, normalise, whole

# Scripts that put no space between sentences.
_UNSPACED = {"Hans", "Hant", "Jpan"}
# Characters of an address. One ends where a script without spaces or its punctuation goes on, before the full stop
# of the sentence, and before a bracket that it did not open.
_ADDRESS = (
    r"[^\s<>()\[\]{}\"“”«»„‘’`\p{InHalfwidth_and_Fullwidth_Forms}\p{InCJK_Symbols_and_Punctuation}"
    + UNSPACED
    + "]"
)
_URL_BODY = rf"(?:{_ADDRESS}|\({_ADDRESS}*\))*(?:(?![.,;:!?'…]){_ADDRESS}|\({_ADDRESS}*\))"
# One emoji: a flag, a key, or a pictogram with its colour, and tags that make it another flag.
_EMOJI = (
    r"(?:[\U0001F1E6-\U0001F1FF]{1,2}|[0-9#*]\ufe0f?\u20e3"
    r"|\p{Extended_Pictographic}[\ufe0e\ufe0f]?\p{Emoji_Modifier}?\u20e3?[\U000E0020-\U000E007F]*)"
)
_PLACEHOLDERS = (
    rf"https?://{_URL_BODY}|(?<!{SPACED_WORD})www\.{_URL_BODY}",
    rf"(?:{SPACED_WORD}|[.+-])+@(?:{SPACED_WORD}|-)+(?:\.(?:{SPACED_WORD}|-)+)+",
    r"</?[A-Za-z][^<>\n]{0,60}>",
    r"\{[^{}\n]{0,60}\}",
    r"`[^`\n]+`",
    rf"%(?:\({WORD}+\))?[sdf](?!{SPACED_WORD})",
    rf"(?<!{SPACED_WORD})[@#]{WORD}+",
    # Models of languages have no names for most emoji.
    rf"{_EMOJI}(?:\u200d?{_EMOJI}|[\u200d\ufe0f\p{{Emoji_Modifier}}])*",
)
_LETTER = regex.compile(r"\p{L}")
_LATIN_CODE = regex.compile(r"(?=.*\p{Nd})[^\p{L}]*(?:\p{Latin}[^\p{L}]*)*")
_NAME_PARTICLES = frozenset("of the and de da di la le van von der del & - y e i".split())
_NOT_NAMES = frozenset("YES NO OK".split())
# They write every noun with a capital, so that two capitals make no name.
_CAPITAL_NOUNS = frozenset("bar de frr gsw ksh lb nds pdc pfl stq".split())


@dataclass(frozen=True)
class Piece:
    """A part of a text; `open` ones are to be translated."""

    text: str
    open: bool


def cut(text: str, kept: Iterable[str] = ()) -> list[Piece]:
    """Cut a text so that its pieces, joined, are the text again.

    Open pieces are single sentences, or what placeholders leave of them, without white space at their ends.
    `kept` are further words that must not be translated, matched whole and in any case.
    """
    pieces: list[Piece] = []
    end = 0
    for placeholder in _placeholders(tuple(kept)).finditer(text):
        _add_sentences(pieces, text[end : placeholder.start()])
        pieces.append(Piece(placeholder.group(), open=False))
        end = placeholder.end()
    _add_sentences(pieces, text[end:])
    return pieces


def join(pieces: Iterable[Piece], translate: Callable[[str], str | None], target: str) -> str | None:
    """The text in the target language, with what `translate` makes of the open pieces; None if it lacks one."""
    parts: list[str] = []
    after_sentence = False
    spaced = language(target).script not in _UNSPACED
    for piece in pieces:
        if piece.open:
            translation = translate(piece.text)
            if translation is None:
                return None
            # The source may be in a script without spaces.
            parts += [" "] if after_sentence and spaced else []
            parts.append(translation.strip())
        elif spaced or piece.text != " " or not after_sentence:
            parts.append(piece.text)
        after_sentence = piece.open
    return "".join(parts)


def is_kept_whole(label: str, code: str = "en") -> bool:
    """Whether a short answer in a language is a number, a code or a name, and is the same in every language.

    That is one without a letter; or one whose words all hold a digit beside Latin letters, or a capital beyond
    their first letter ("BMW", "McDonald's"), or are two or more with capitals ("Coca Cola", "Statue of Liberty") in
    a language that writes nouns without.
    """
    words = label.split()
    if not _LETTER.search(label):
        return True
    known = answer_words(code)
    if len(words) > 5 or label in _NOT_NAMES or normalise(label) in known.yes | known.no | known.maybe:
        return False
    capitals = [word for word in words if word[:1].isupper()]
    if len(capitals) >= 2 and label[:1].isupper() and code.split("-")[0] not in _CAPITAL_NOUNS:
        return all(word[:1].isupper() or word in _NAME_PARTICLES or _is_code(word) for word in words)
    return all(_is_code(word) for word in words)


def _is_code(word: str) -> bool:
    return _LATIN_CODE.fullmatch(word) is not None or any(c.isupper() for c in word[1:])


def _add_sentences(pieces: list[Piece], text: str) -> None:
    start = 0
    for mark in SENTENCE_GAP.finditer(text):
        _add_sentence(pieces, text[start : mark.start()])
        _add_kept(pieces, mark.group())
        start = mark.end()
    _add_sentence(pieces, text[start:])


def _add_sentence(pieces: list[Piece], text: str) -> None:
    if not _LETTER.search(text):
        _add_kept(pieces, text)
        return
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    _add_kept(pieces, text[:start])
    pieces.append(Piece(text[start:end], open=True))
    _add_kept(pieces, text[end:])


def _add_kept(pieces: list[Piece], text: str) -> None:
    if text:
        pieces.append(Piece(text, open=False))


@lru_cache(maxsize=8)
def _placeholders(kept: tuple[str, ...]) -> Any:
    words = [whole(word) for word in sorted(kept, key=len, reverse=True) if word]
    return regex.compile("|".join([*words, *_PLACEHOLDERS]), regex.IGNORECASE)
