"""Which translations are fit to be learnt from: cheap checks that catch what translators are known to do."""

import unicodedata
from collections import Counter
from typing import NamedTuple

import regex

from polylens.language_id import SURE, identify, knows, same
from polylens.languages import language
from polylens.text import normalise

REASONS = {
    "unknown": "the engine does not know the text",
    "empty": "nothing came back",
    "number": "a number of two or more digits is missing",
    "length": "far shorter or longer than the source",
    "repetition": "the same words again and again",
    "copy": "most words are the source's own",
    "language": "it is in another language",
}
# A text of four English letters is one Han character long, and so on; other scripts are about as long as English.
_DENSITY = {"Hans": 0.3, "Hant": 0.3, "Jpan": 0.5, "Kore": 0.5}
MAX_RATIO = 3.0
# Short texts vary more: that many characters are free.
SLACK = 20
# A loop is a unit of at most so many letters, that many times or more, and of that many letters in all.
LONGEST_UNIT = 60
REPEATS = 4
LOOP_LETTERS = 12
COPIED = 0.75
MIN_COPIED_WORDS = 4
# Marks between the digits of one number, in any script: 1,000 and 1,00,000 and 1'000 and 10:30 and ١٬٠٠٠.
_SEPARATOR = r"[.,:/'’ʼ٫٬·]"
_NUMBER = regex.compile(rf"\p{{Nd}}+(?:{_SEPARATOR}\p{{Nd}}+)*")
# Spaces stand between groups of three, plain ones too: models whose pieces went through NFKC write no others.
_SPACED_NUMBER = regex.compile(
    rf"(?<!\p{{Nd}}|\p{{Nd}}{_SEPARATOR})\p{{Nd}}{{1,3}}(?:[ \u00a0\u2007\u2009\u202f]\p{{Nd}}{{3}})+(?!\p{{Nd}})"
)
# Numbers in Han characters, or in digits with units: 三千, 3千, 3万, 一九九九; units of Korean follow digits.
_HAN_NUMERALS = "〇零一二两兩三四五六七八九十百千万萬亿億"
_HAN_NUMBER = regex.compile(
    rf"[\p{{Nd}}{_HAN_NUMERALS}]*[{_HAN_NUMERALS}]|\p{{Nd}}[\p{{Nd}}십백천만억]*[십백천만억]"
)
_HAN_DIGITS = {
    letter: value
    for value, letters in enumerate("〇零 一 二两兩 三 四 五 六 七 八 九".split())
    for letter in letters
}
_HAN_UNITS = dict.fromkeys("十십", 10) | dict.fromkeys("百백", 100) | dict.fromkeys("千천", 1000)
_HAN_GROUPS = dict.fromkeys("万萬만", 10**4) | dict.fromkeys("亿億억", 10**8)
_WORD = regex.compile(r"[\p{L}\p{M}]+")


class Verdict(NamedTuple):
    """Why a translation should not be used (keys of `REASONS`), and whether it is in its language, if that shows."""

    reasons: list[str]
    in_language: bool | None


def judge(source: str, translation: str, source_language: str, target: str) -> Verdict:
    """Check a translation; one without reasons is fit.

    A language that the identifier does not know, or is not sure of, is never a reason: "unidentified".
    """
    if not translation.strip():
        return Verdict(["empty"], None)
    found = []
    if _lacks_number(source, translation):
        found.append("number")
    if not _fits(source, translation, source_language, target):
        found.append("length")
    if _loops(translation) and not _loops(source):
        found.append("repetition")
    if not same(source_language, target) and _copied(source, translation):
        found.append("copy")
    in_language = _is_in(translation, target)
    if in_language is False:
        found.append("language")
    return Verdict(found, in_language)


def _is_in(text: str, target: str) -> bool | None:
    """None where that cannot be told."""
    if not knows(target):
        return None
    code, confidence = identify(text)
    if code is None or confidence < SURE:
        return None
    return same(code, target)


def _fits(source: str, translation: str, source_language: str, target: str) -> bool:
    density = _density(target) / _density(source_language)
    expected, length = len(source) * density, len(translation)
    slack = SLACK * max(density, 1)
    return length <= MAX_RATIO * expected + slack and length + slack >= expected / MAX_RATIO


def _density(code: str) -> float:
    return _DENSITY.get(language(code).script, 1.0)


def _loops(text: str) -> bool:
    """Whether some letters come again and again, spaces and punctuation aside."""
    letters = "".join(_WORD.findall(text)).casefold()
    for period in range(1, min(LONGEST_UNIT, len(letters) // REPEATS) + 1):
        needed = max(REPEATS * period, LOOP_LETTERS) - period
        run = 0
        for letter, before in zip(letters[period:], letters, strict=False):
            run = run + 1 if letter == before else 0
            if run >= needed:
                return True
    return False


def _copied(source: str, translation: str) -> bool:
    words, theirs = _words(source), _words(translation)
    total = sum(words.values())
    return total >= MIN_COPIED_WORDS and sum((words & theirs).values()) >= COPIED * total


def _words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(normalise(text)))


def _lacks_number(source: str, translation: str) -> bool:
    """Whether a number of two digits or more is missing, however it is grouped.

    Where spaces may part two numbers or the groups of one, either reading will do.
    """
    theirs = _numbers(translation) | {_joined(number) for number in _SPACED_NUMBER.findall(translation)}
    theirs |= {str(_han_value(number)) for number in _HAN_NUMBER.findall(translation)}
    spaced = [number for number in _SPACED_NUMBER.findall(source) if _joined(number) in theirs]
    for number in spaced:
        source = source.replace(number, " ")
    return bool(_numbers(source) - theirs)


def _numbers(text: str) -> set[str]:
    """Numbers of two digits or more, without separators, in ASCII digits: 1,000 and ١٬٠٠٠ are one."""
    return {digits for number in _NUMBER.findall(text) if len(digits := _joined(number)) >= 2}


def _joined(number: str) -> str:
    return "".join(str(unicodedata.digit(c)) for c in number if c.isdecimal())


def _han_value(number: str) -> int:
    """3000 of 三千 and of 3千, 1999 of 一九九九."""
    total = group = digits = 0
    for letter in number:
        if letter in _HAN_UNITS:
            group, digits = group + (digits or 1) * _HAN_UNITS[letter], 0
        elif letter in _HAN_GROUPS:
            total, group, digits = total + (group + digits) * _HAN_GROUPS[letter], 0, 0
        else:
            value = _HAN_DIGITS[letter] if letter in _HAN_DIGITS else unicodedata.digit(letter)
            digits = 10 * digits + value
    return total + group + digits
