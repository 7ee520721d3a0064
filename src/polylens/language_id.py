"""Which language a text is in: by its script where one language alone uses it, else by py3langid's model.

Codes are those of `polylens.languages`. The model ships with its package, needs no network and one
millisecond per text; its confidences are calibrated, so short or mixed texts get low ones.
"""

from functools import cache
from typing import Any

import regex

from polylens.languages import LANGUAGES, language

# From here on 36 of 163,464 names of Picto's annotations were taken for another language that is no relative
# (some of them rightly); 39% of single names in 94 languages reach it, 63% of 3 in a row, 80% of 8.
SURE = 0.9
# Below this the model has seen nothing that it knows.
_CHANCE = 0.05

# Their code of a language that we write differently; Nynorsk is Norwegian here.
_THEIR_CODES = {"tl": "fil", "gom": "kok", "nn": "no"}
_NO_LANGUAGE = "zxx"
# Nigerian Pidgin is spelled in ways that its model does not know: it is taken for Yoruba. The others are so near to
# a language with far more writers that its short texts would be taken for theirs.
_LEFT_OUT = frozenset("pcm ace an ary crh ext grc lij ltg nso oc sa sdh vec wa wuu".split())
# Languages whose texts are too much alike to call one for the other a mistake.
_RELATIVES = [
    set(codes.split())
    for codes in (
        "bs bs-Cyrl hr sr sr-Latn",
        "id ms min",
        "da nn no",
        "zh zh-Hant yue yue-Hans wuu",
        "ar arz acm acq acw afb apc ars ary",
        "kok mr",
        "qu qug quz",
        "az-Arab azb",
        "be be-tarask",
        "en en-simple",
    )
]
_KANA = "Kana"
# Scripts that one language uses by far the most; kana means Japanese.
_OWN_SCRIPTS = {
    "Cher": "chr", "Geor": "ka", "Grek": "el", "Gujr": "gu", "Guru": "pa", "Hang": "ko", "Armn": "hy",
    _KANA: "ja", "Khmr": "km", "Knda": "kn", "Laoo": "lo", "Mlym": "ml", "Orya": "or", "Sinh": "si",
    "Taml": "ta", "Telu": "te", "Thai": "th",
}  # fmt: skip


def identify(text: str) -> tuple[str | None, float]:
    """The likeliest language of `text`, and a confidence from 0 to 1; (None, 0.0) where no letter tells.

    Of relatives such as Bosnian and Croatian any may be returned: compare with `same`. A confidence of
    `SURE` or more may be relied on; languages that are not known (see `knows`) are taken for others.
    """
    counts = _count_scripts(text)
    letters = sum(counts.values())
    if not letters:
        return None, 0.0
    for script, code in _OWN_SCRIPTS.items():
        if counts[script] > letters / 2:
            return code, counts[script] / letters
    found, confidence = _identifier().classify(text)
    if found == _NO_LANGUAGE or confidence < _CHANCE:
        return None, 0.0
    code = _THEIR_CODES.get(str(found), str(found))
    if code == "sr" and counts["Latn"] > letters / 2:
        code = "sr-Latn"
    return code, float(confidence)


def knows(code: str) -> bool:
    """Whether `identify` can tell this language from others (its relatives aside)."""
    code = language(code).code
    return any(same(code, known) for known in _known())


def same(code: str, other: str) -> bool:
    """Whether two codes mean one language, or two that cannot be told apart reliably."""
    return code == other or any(code in group and other in group for group in _RELATIVES)


@cache
def _known() -> frozenset[str]:
    theirs = {_THEIR_CODES.get(label, label) for label in _identifier().labels}
    return frozenset((theirs & LANGUAGES.keys()) | set(_OWN_SCRIPTS.values()))


def _count_scripts(text: str) -> dict[str, int]:
    """How many letters of `text` are of each of our own scripts, of Latin ("Latn"), or of others ("other")."""
    counts = dict.fromkeys([*_OWN_SCRIPTS, "Latn", "Hani", "other"], 0)
    for letter in _letters().finditer(text):
        counts[letter.lastgroup or "other"] += 1
    if counts[_KANA]:
        # Only Japanese writes kana, and it writes them among Han characters.
        counts[_KANA], counts["Hani"] = counts[_KANA] + counts["Hani"], 0
    return counts


@cache
def _letters() -> Any:
    plain = [script for script in _OWN_SCRIPTS if script != _KANA]
    groups = [rf"(?P<{script}>\p{{Script={script}}})" for script in [*plain, "Latn", "Hani"]]
    kana = rf"(?P<{_KANA}>[\p{{Script=Hira}}\p{{Script=Kana}}])"
    # Vowel signs count with their letters, digits and punctuation do not count.
    return regex.compile(rf"(?=[\p{{L}}\p{{M}}])(?:{'|'.join([*groups, kana])}|(?P<other>.))", regex.DOTALL)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    # Only languages of the table compete, and what is no language at all.
    ours = {label for label in identifier.labels if _THEIR_CODES.get(label, label) in LANGUAGES}
    identifier.set_languages(sorted(ours - _LEFT_OUT | {_NO_LANGUAGE}))
    return identifier
