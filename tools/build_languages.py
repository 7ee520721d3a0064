"""Builds src/polylens/languages.json, the one table of languages.

    python tools/build_languages.py languages_mblip.json cldr-localenames-full.tgz cldr-core.tgz

The two archives are `npm pack cldr-localenames-full@48.2.0` and `npm pack cldr-core@48.2.0` (Unicode
licence): names in English and in the language itself, and the usual script. Families and the NLLB codes of
languages that mBLIP lacks are written here by hand.
"""

import json
import sys
import tarfile
from pathlib import Path

OUT = Path(__file__).parents[1] / "src" / "polylens" / "languages.json"

FAMILIES = {
    "Afro-Asiatic/Chadic": "ha",
    "Afro-Asiatic/Cushitic": "om so",
    "Afro-Asiatic/Semitic": "am ar arz he mt ti",
    "Austroasiatic": "km vi",
    "Austronesian/Malayo-Polynesian": "ceb fil id jv mg min ms su",
    "Austronesian/Polynesian": "mi sm to",
    "Basque": "eu",
    "Constructed": "eo",
    "Creole/English-based": "pcm",
    "Creole/French-based": "ht",
    "Dravidian": "kn ml ta te",
    "Indo-European/Albanian": "sq",
    "Indo-European/Armenian": "hy",
    "Indo-European/Baltic": "lt lv",
    "Indo-European/Celtic": "br cy ga gd",
    "Indo-European/Germanic": "af da de en fo is lb nl no sv yi",
    "Indo-European/Hellenic": "el",
    "Indo-European/Indo-Aryan": "as bn gu hi kok mr ne or pa sd si ur",
    "Indo-European/Iranian": "fa ku ps tg",
    "Indo-European/Romance": "ca es fr gl it pt rm ro",
    "Indo-European/Slavic": "be bg bs cs dsb hr hsb mk pl ru sk sl sr sr-Latn uk",
    "Iroquoian": "chr",
    "Japonic": "ja",
    "Kartvelian": "ka",
    "Koreanic": "ko",
    "Kra-Dai": "lo shn th",
    "Mongolic": "mn",
    "Niger-Congo/Atlantic": "wo",
    "Niger-Congo/Bantu": "ny rw sn st sw xh zu",
    "Niger-Congo/Kwa": "ak",
    "Niger-Congo/Volta-Niger": "ig yo",
    "Quechuan": "qu quz",
    "Sino-Tibetan/Sinitic": "yue yue-Hans zh zh-Hant",
    "Sino-Tibetan/Tibeto-Burman": "my",
    "Turkic": "az ba cv kk kk-Arab ky tk tr uz",
    "Uralic": "et fi hu",
}
FAMILIES = {code: family for family, codes in FAMILIES.items() for code in codes.split()}

# None: NLLB-200 has no such language. ku and zh differ from mBLIP's table, for ku and zh mean Kurmanji
# in Latin script and simplified Chinese.
NLLB = {
    "ak": "aka_Latn", "arz": "arz_Arab", "as": "asm_Beng", "ba": "bak_Cyrl", "br": None, "bs": "bos_Latn",
    "chr": None, "cv": None, "dsb": None, "fo": "fao_Latn", "hr": "hrv_Latn", "hsb": None, "kk-Arab": None,
    "kok": None, "ku": "kmr_Latn", "min": "min_Latn", "om": "gaz_Latn", "or": "ory_Orya", "pcm": None,
    "qu": "quy_Latn", "quz": None, "rm": None, "rw": "kin_Latn", "shn": "shn_Mymr", "sr-Latn": None,
    "ti": "tir_Ethi", "tk": "tuk_Latn", "to": None, "wo": "wol_Latn", "yue": "yue_Hant", "yue-Hans": None,
    "zh": "zho_Hans", "zh-Hant": "zho_Hant",
}  # fmt: skip

# What CLDR does not say, or says with a note in brackets.
ENGLISH_NAMES = {
    "kk-Arab": "Kazakh (Arabic script)",
    "quz": "Cusco Quechua",
    "sr-Latn": "Serbian (Latin script)",
    "yue-Hans": "Cantonese (Simplified)",
}
OWN_NAMES = {
    "arz": "مصرى",
    "kk-Arab": "قازاق ءتىلى",
    "ku": "kurdî",
    "min": "Baso Minangkabau",
    "quz": "Qusqu runasimi",
    "rw": "Ikinyarwanda",
    "sm": "Gagana faʻa Sāmoa",
    "sr-Latn": "srpski",
    "yue-Hans": "粤语",
}
SCRIPTS = {"arz": "Arab", "quz": "Latn"}

SEGMENTERS = {
    "characters": "yue yue-Hans zh zh-Hant",
    "sudachi": "ja",
    "pythainlp": "th",
    "graphemes": "km lo my shn",
}
SEGMENTERS = {code: segmenter for segmenter, codes in SEGMENTERS.items() for code in codes.split()}

# Our code of a language that mBLIP writes differently.
MBLIP_CODES = {"iw": "he"}


def main(mblip: Path, localenames: Path, core: Path) -> None:
    mblip_rows = {MBLIP_CODES.get(row["code"], row["code"]): row for row in json.loads(mblip.read_text())}
    with tarfile.open(core) as archive:
        subtags = _read(archive, "supplemental/likelySubtags.json")["supplemental"]["likelySubtags"]
    with tarfile.open(localenames) as archive:
        members = {member.name for member in archive}
        english = _names(archive, "en")
        rows = []
        for code in sorted(FAMILIES):
            row = mblip_rows.get(code, {})
            own = OWN_NAMES.get(code)
            if own is None and f"package/main/{code}/languages.json" in members:
                own = _names(archive, code).get(code)
            tagged = [part for part in code.split("-")[1:] if len(part) == 4]
            language = {
                "code": code,
                "name": ENGLISH_NAMES.get(code) or english[code],
                "own_name": own or english[code],
                "script": tagged[0] if tagged else SCRIPTS.get(code) or subtags[code].split("-")[1],
                "family": FAMILIES[code],
                "nllb": NLLB[code] if code in NLLB else row["nllb"],
                "mc4_share": row.get("mc4_share_percent"),
                "mt5_share": row.get("mt5_share_percent"),
                "segmenter": SEGMENTERS.get(code, "none"),
            }
            if row:
                language["mblip"] = {"code": row["code"], "name": row["english_name"], "nllb": row["nllb"]}
            rows.append(json.dumps(language, ensure_ascii=False))
    missing = mblip_rows.keys() - FAMILIES.keys()
    if missing:
        raise SystemExit(f"no family is given for {sorted(missing)}")
    OUT.write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")
    print(f"{len(rows)} languages -> {OUT}")


def _names(archive: tarfile.TarFile, locale: str) -> dict[str, str]:
    main = _read(archive, f"main/{locale}/languages.json")["main"][locale]
    return main["localeDisplayNames"]["languages"]


def _read(archive: tarfile.TarFile, name: str) -> dict:
    file = archive.extractfile(f"package/{name}")
    assert file is not None
    return json.load(file)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(*map(Path, sys.argv[1:]))
