"""The one table of languages. Codes are BCP 47 (he, no, fil; zh is Hans); `language` reads other spellings too."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from importlib.resources import files

from polylens.errors import UserError
from polylens.text import normalise


@dataclass(frozen=True, kw_only=True)
class Language:
    """`name` is English, `script` ISO 15924, `family` "" where unknown, `nllb` a FLORES-200 code (None: not in
    NLLB-200). `other_names` are further English names, those of benchmarks among them.

    Shares are percent of the corpus: `mc4_share` as crawled, `mt5_share` smoothed as mT5 drew it (None:
    unknown).
    `segmenter` names what cuts captions into words before scoring ("none": spaces do).
    """

    code: str
    name: str
    own_name: str
    script: str
    family: str
    nllb: str | None
    mc4_share: float | None
    mt5_share: float | None
    segmenter: str
    other_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class MblipLanguage:
    """What mBLIP's training called one of its 96 languages; only for reproducing its protocol."""

    code: str
    name: str
    nllb: str


def _load() -> tuple[dict[str, Language], dict[str, MblipLanguage], dict[str, str]]:
    table = json.loads(files("polylens").joinpath("languages.json").read_text(encoding="utf-8"))
    rows = table["languages"]
    mblip = {row["code"]: MblipLanguage(**row.pop("mblip")) for row in rows if "mblip" in row}
    known = {
        row["code"]: Language(**row | {"other_names": tuple(row.get("other_names", ()))}) for row in rows
    }
    return known, mblip, table["aliases"]


LANGUAGES, MBLIP_LANGUAGES, ALIASES = _load()

_CODES = (
    {f"{code}-{entry.script}".lower(): code for code, entry in LANGUAGES.items() if "-" not in code}
    | {entry.nllb.replace("_", "-").lower(): code for code, entry in LANGUAGES.items() if entry.nllb}
    | ALIASES
    | {code.lower(): code for code in LANGUAGES}
)


def _name_key(name: str) -> str:
    """Names are compared in one case, without marks between words: Egyptian_Arabic is Egyptian Arabic."""
    return normalise(name.replace("_", " ").replace("-", " "))


def _load_names() -> dict[str, str]:
    """{name: code}; a name that several scripts of a language share is that of its usual script."""
    found: dict[str, str] = {}
    for code, entry in sorted(LANGUAGES.items(), key=lambda item: "-" in item[0]):
        for name in (entry.name, entry.own_name, *entry.other_names):
            found.setdefault(_name_key(name), code)
    return found


_NAMES = _load_names()


def language(spelling: str) -> Language:
    """The language that a text names: a BCP 47, ISO 639, withdrawn or NLLB code, or a name, English or its own.

    Case, `_` for `-`, a region (pt-BR) and a variant (ca-valencia) do not matter. A text that is a code is never
    read as a name. Raises `UserError` naming the nearest code.
    """
    found = _find(spelling)
    if found is None:
        raise UserError(f"Unknown language '{spelling}': {_advice(spelling)}")
    return LANGUAGES[found]


def code_at(spelling: str, where: str) -> str:
    """The code of a language that a file names. Raises `UserError` that begins with `where`."""
    try:
        return language(spelling).code
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def language_codes(spellings: Iterable[str]) -> list[str]:
    """Our codes of these languages, each once, in order. Raises `UserError` naming all that are unknown."""
    found = {spelling: _find(spelling) for spelling in spellings}
    unknown = [spelling for spelling, code in found.items() if code is None]
    if len(unknown) == 1:
        language(unknown[0])
    if unknown:
        listed = "; ".join(f"'{spelling}': {_advice(spelling).rstrip('.')}" for spelling in unknown)
        raise UserError(f"{len(unknown)} unknown languages: {listed}.")
    return list(dict.fromkeys(code for code in found.values() if code is not None))


def mblip_language(code: str) -> MblipLanguage:
    """mBLIP's own code, name and NLLB code of a language, or ours where mBLIP was not trained on it."""
    entry = language(code)
    return MBLIP_LANGUAGES.get(entry.code) or MblipLanguage(entry.code, entry.name, entry.nllb or "")


def parse_languages(text: str, known: Iterable[str] = LANGUAGES) -> list[str]:
    """The codes meant by "de,sw" or "all" among `known` codes: in the order asked for, each once.

    Raises `UserError` for an empty list, unknown languages, and those outside `known`, naming all of them.
    """
    known = list(known)
    asked = split_list(text)
    if "all" in (part.lower() for part in asked):
        return known
    codes = language_codes(asked)
    if outside := [code for code in codes if code not in known]:
        listed = ", ".join(known[:40]) + (", ..." if len(known) > 40 else "")
        names = ", ".join(f"'{code}' ({LANGUAGES[code].name})" for code in outside)
        raise UserError(f"There is nothing in {names} here: choose from {listed}.")
    return codes


def split_list(text: str) -> list[str]:
    """The parts of "de, sw". Raises `UserError` where there is none."""
    asked = [part.strip() for part in text.split(",") if part.strip()]
    if not asked:
        raise UserError(f"No language in '{text}': give codes such as 'de,sw', or 'all'.")
    return asked


def related_codes(code: str) -> list[str]:
    """A code and those to look up in its place in a table that lacks it, nearest first.

    They are the language in its usual script, then the macrolanguage: yue-Hans -> yue, zh; sr-Latn -> sr; arz -> ar.
    """
    base = code.split("-")[0]
    return list(dict.fromkeys([code, base, _MACRO.get(base, base)]))


# The members of macrolanguages (ISO 639-3) that share most of the words that tables here are about.
_MACRO = {
    member: macro
    for macro, members in {
        "ar": "acm acq acw aeb afb apc arq ars ary arz shu",
        "az": "azb",
        "fa": "prs",
        "ms": "kxd zlm",
        "no": "nn",
        "qu": "qug quz",
        "zh": "cdo dng gan hak hsn lzh nan wuu yue",
    }.items()
    for member in members.split()
}


# Registered variants that change the spelling at most; others are refused, for they may be a name.
_VARIANTS = frozenset(
    "1901 1996 abl1943 ao1990 arevela arevmda monoton oxendict polyton posix valencia".split()
)


def _find(spelling: str) -> str | None:
    wanted = spelling.strip().replace("_", "-").lower()
    parts = wanted.split("-")
    found = _CODES.get(wanted)
    # What follows is cut off from the right: variants, then a region.
    while found is None and len(parts) > 1 and (_is_region(parts[-1]) or parts[-1] in _VARIANTS):
        parts = parts[:-1]
        found = _CODES.get("-".join(parts))
    return found or _NAMES.get(_name_key(spelling))


def _is_region(part: str) -> bool:
    return (len(part) == 2 and part.isascii() and part.isalpha()) or (len(part) == 3 and part.isdecimal())


def _advice(spelling: str) -> str:
    plain = spelling.partition("(")[0]
    near = _nearest(_name_key(plain), _NAMES, 0.8) or _nearest(
        plain.strip().replace("_", "-").lower(), _CODES, 0.6
    )
    if near is None:
        return "give a BCP 47 code such as 'de', 'sw' or 'zh-Hant'."
    return f"did you mean '{near.code}' ({near.name})?"


def _nearest(wanted: str, known: Mapping[str, str], cutoff: float) -> Language | None:
    """The language whose spelling is nearest; of equals the one that more is written in."""
    close = get_close_matches(wanted, known, n=8, cutoff=cutoff)
    found = [(SequenceMatcher(None, one, wanted).ratio(), LANGUAGES[known[one]]) for one in close]
    return max(found, key=lambda pair: (pair[0], pair[1].mt5_share or 0))[1] if found else None
