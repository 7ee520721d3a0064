"""The one table of languages. Codes are BCP 47 (he, no, fil; zh is Hans); `language` reads other ones too."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files

from polylens.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Language:
    """`name` is English, `script` ISO 15924, `nllb` a FLORES-200 code (None: not in NLLB-200).

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


@dataclass(frozen=True)
class MblipLanguage:
    """What mBLIP's training called one of its 96 languages; only for reproducing its protocol."""

    code: str
    name: str
    nllb: str


def _load() -> tuple[dict[str, Language], dict[str, MblipLanguage]]:
    rows = json.loads(files("polylens").joinpath("languages.json").read_text(encoding="utf-8"))
    mblip = {row["code"]: MblipLanguage(**row.pop("mblip")) for row in rows if "mblip" in row}
    return {row["code"]: Language(**row) for row in rows}, mblip


LANGUAGES, MBLIP_LANGUAGES = _load()

ALIASES = {
    "cmn": "zh",
    "in": "id",
    "iw": "he",
    "ji": "yi",
    "jw": "jv",
    "mo": "ro",
    "nb": "no",
    "tl": "fil",
    "zh-hk": "zh-Hant",
    "zh-mo": "zh-Hant",
    "zh-tw": "zh-Hant",
}
_CODES = (
    {f"{code}-{entry.script}".lower(): code for code, entry in LANGUAGES.items() if "-" not in code}
    | {entry.nllb.replace("_", "-").lower(): code for code, entry in LANGUAGES.items() if entry.nllb}
    | {code.lower(): code for code in LANGUAGES}
    | ALIASES
)
_NAMES = {name.casefold(): code for code, entry in LANGUAGES.items() for name in (entry.name, entry.own_name)}


def language(code: str) -> Language:
    """The language of a BCP 47, older or NLLB code; case, `_` for `-` and a region (pt-BR) do not matter.

    Raises `UserError` naming the nearest code.
    """
    wanted = code.strip().replace("_", "-").lower()
    parts = wanted.split("-")
    found = _CODES.get(wanted)
    if found is None and len(parts) > 1 and _is_region(parts[-1]):
        found = _CODES.get("-".join(parts[:-1]))
    if found is None:
        raise UserError(f"Unknown language '{code}': {_advice(wanted)}")
    return LANGUAGES[found]


def mblip_language(code: str) -> MblipLanguage:
    """mBLIP's own code, name and NLLB code of a language, or ours where mBLIP was not trained on it."""
    entry = language(code)
    return MBLIP_LANGUAGES.get(entry.code) or MblipLanguage(entry.code, entry.name, entry.nllb or "")


def parse_languages(text: str, known: Iterable[str] = LANGUAGES) -> list[str]:
    """The codes meant by "de,sw" or "all" among `known` codes: in the order asked for, each once.

    Raises `UserError` for an empty list, an unknown language, or one outside `known`.
    """
    known = list(known)
    asked = [part.strip() for part in text.split(",") if part.strip()]
    if not asked:
        raise UserError(f"No language in '{text}': give codes such as 'de,sw', or 'all'.")
    if "all" in (part.lower() for part in asked):
        return known
    codes = dict.fromkeys(language(part).code for part in asked)
    for code in codes:
        if code not in known:
            listed = ", ".join(known[:40]) + (", ..." if len(known) > 40 else "")
            name = LANGUAGES[code].name
            raise UserError(f"There is nothing in '{code}' ({name}) here: choose from {listed}.")
    return list(codes)


def _is_region(part: str) -> bool:
    return (len(part) == 2 and part.isascii() and part.isalpha()) or (len(part) == 3 and part.isdecimal())


def _advice(wanted: str) -> str:
    by_name = get_close_matches(wanted, _NAMES, n=1, cutoff=0.8)
    by_code = get_close_matches(wanted, _CODES, n=1, cutoff=0.6)
    if by_name or by_code:
        near = LANGUAGES[_NAMES[by_name[0]] if by_name else _CODES[by_code[0]]]
        return f"did you mean '{near.code}' ({near.name})?"
    return "give a BCP 47 code such as 'de', 'sw' or 'zh-Hant'."
