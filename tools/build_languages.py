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

from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

OUT = Path(__file__).parents[1] / "src" / "polylens" / "languages.json"

FAMILIES = {
    "Afro-Asiatic/Berber": "ber kab rif shi taq tzm zgh",
    "Afro-Asiatic/Chadic": "ha",
    "Afro-Asiatic/Cushitic": "aa om sid so ssy",
    "Afro-Asiatic/Egyptian": "cop egy",
    "Afro-Asiatic/Semitic": "acm acq acw aeb afb aii akk am apc ar arc ars ary arz gez he mt syr ti tig",
    "Algic": "chy cr csw mic moh oj",
    "Austroasiatic": "kha km mnw sat vi",
    "Austronesian/Malayo-Polynesian": "ace ban bik bjn bug ceb fil id ilo jv kxd mad mak mel mg min ms "
    "pag pam sne su "
    "tet war",
    "Austronesian/Polynesian": "fj haw mi sm tkl to tvl ty",
    "Aymaran": "ay",
    "Basque": "eu",
    "Constructed": "eo ia ie io jbo nov tlh tok vo",
    "Creole/English-based": "bi jam pcm pis srn tpi",
    "Creole/French-based": "ht mfe",
    "Creole/Portuguese-based": "kea pap",
    "Dravidian": "kn ml ta tcy te",
    "Eskaleut": "ik iu kl",
    "Indo-European/Albanian": "aln sq",
    "Indo-European/Armenian": "hy",
    "Indo-European/Baltic": "lt ltg lv prg sgs",
    "Indo-European/Celtic": "br cy ga gd gv kw sga",
    "Indo-European/Germanic": "af ang bar da de en enm fo frr frs fy goh got gsw hrx is ksh lb li mhn nds "
    "nds-NL nl nn no "
    "non ovd pdc pdt pfl sco sli stq sv vls vmf yi zea",
    "Indo-European/Hellenic": "el grc pnt",
    "Indo-European/Indo-Aryan": "as awa bgc bho bn bpy doi dv gu hi hif hne kok ks lah mag mai mr mwr ne "
    "or pa pi "
    "raj rom sa sd si skr ur",
    "Indo-European/Iranian": "bal bqi ckb fa glk ku lrc mzn os ps tg tly zza",
    "Indo-European/Romance": "an ast ca co dlm egl eml es ext fr frc frm fro frp fur gl it la lad lij lld "
    "lmo mwl nap nrf "
    "oc pcd pms pro pt rgn rm ro rup sc scn vec wa",
    "Indo-European/Slavic": "be be-tarask bg bs cs csb cu dsb hr hsb mk orv pl ru rue sk sl sr sr-Latn szl uk",
    "Iroquoian": "chr",
    "Japonic": "ja",
    "Kartvelian": "ka lzz sva xmf",
    "Koreanic": "ko",
    "Kra-Dai": "khb lo shn th za",
    "Mayan": "kek quc yua",
    "Mongolic": "bua mn xal",
    "Na-Dene": "nv",
    "Niger-Congo/Atlantic": "ff sg srr wo",
    "Niger-Congo/Bantu": "bem cjk kam kg ki kmb lg ln loz lu lua luo luy nd nr nso ny nyn rn rw sn ss "
    "st sw tn ts tum umb "
    "ve xh zdj zu",
    "Niger-Congo/Gur": "dag kbp mos",
    "Niger-Congo/Kwa": "ak ee fon gaa",
    "Niger-Congo/Mande": "bm dyu",
    "Niger-Congo/Volta-Niger": "ig yo",
    "Nilo-Saharan": "ach dje din kr luo mas nus ses",
    "Northeast Caucasian": "av ce inh lbe lez",
    "Northwest Caucasian": "ab ady kbd",
    "Quechuan": "qu qug quz",
    "Sino-Tibetan/Sinitic": "cdo dng gan hak hsn lzh nan wuu yue yue-Hans zh zh-Hant",
    "Sino-Tibetan/Tibeto-Burman": "bo brx dz kac lus mni my new",
    "Tupian": "gn",
    "Turkic": "alt az azb ba crh cv gag kaa kk kk-Arab krc kum ky nog ota sah tk tr tt tyv ug uz",
    "Uralic": "et fi hu izh koi krl kv mdf mrj myv olo chm se sma smj smn sms udm vep vot vro",
    "Uto-Aztecan": "nah nci",
}
FAMILIES = {code: family for family, codes in FAMILIES.items() for code in codes.split()}

# Languages that CLDR has no English name for: code -> (name, script). Benchmarks and NLLB-200 have them.
FURTHER = {
    "acm": ("Mesopotamian Arabic", "Arab"), "acq": ("Taʽizzi-Adeni Arabic", "Arab"),
    "acw": ("Hijazi Arabic", "Arab"), "afb": ("Gulf Arabic", "Arab"), "aii": ("Assyrian Neo-Aramaic", "Syrc"),
    "apc": ("Levantine Arabic", "Arab"), "azb": ("South Azerbaijani", "Arab"),
    "be-tarask": ("Belarusian (Taraškievica)", "Cyrl"), "ber": ("Berber", "Tfng"), "ccc": ("Chamicuro", "Latn"),
    "cdo": ("Min Dong Chinese", "Hans"), "cjk": ("Chokwe", "Latn"), "dag": ("Dagbani", "Latn"),
    "dlm": ("Dalmatian", "Latn"),
    "dng": ("Dungan", "Cyrl"), "eml": ("Emilian-Romagnol", "Latn"), "en-simple": ("Simple English", "Latn"),
    "gmq-x-bot": ("Westrobothnian", "Latn"), "hne": ("Chhattisgarhi", "Deva"), "hrx": ("Hunsrik", "Latn"),
    "kbp": ("Kabiyè", "Latn"), "khb": ("Lü", "Talu"), "kxd": ("Brunei Malay", "Latn"), "lbe": ("Lak", "Cyrl"),
    "lld": ("Ladin", "Latn"), "mel": ("Central Melanau", "Latn"), "mhn": ("Mòcheno", "Latn"),
    "mnw": ("Mon", "Mymr"), "mww": ("White Hmong", "Hmnp"), "nah": ("Nahuatl", "Latn"),
    "nci": ("Classical Nahuatl", "Latn"), "nds-NL": ("Low Saxon", "Latn"), "nrf": ("Norman", "Latn"),
    "olo": ("Livvi-Karelian", "Latn"),
    "orv": ("Old East Slavic", "Cyrl"), "ovd": ("Elfdalian", "Latn"), "skr": ("Saraiki", "Arab"),
    "sne": ("Bau Bidayuh", "Latn"), "suz": ("Sunwar", "Deva"), "sva": ("Svan", "Geor"),
    "taq": ("Tamasheq", "Latn"), "yua": ("Yucatec Maya", "Latn"), "zdj": ("Ngazidja Comorian", "Latn"),
}  # fmt: skip
# Written in a second script, by NLLB-200 if not by CLDR.
SECOND_SCRIPTS = ("ace-Arab", "bjn-Arab", "crh-Latn", "kr-Arab", "min-Arab", "taq-Tfng", "tzm-Tfng")
# Names of CLDR that are no language's.
NO_LANGUAGES = {"mis", "mul", "root", "und", "zxx"}

# None: NLLB-200 has no such language. ku and zh differ from mBLIP's table, for ku and zh mean Kurmanji
# in Latin script and simplified Chinese.
NLLB = {
    "ak": "aka_Latn", "arz": "arz_Arab", "as": "asm_Beng", "ba": "bak_Cyrl", "br": None, "bs": "bos_Latn",
    "chr": None, "cv": None, "dsb": None, "fo": "fao_Latn", "hr": "hrv_Latn", "hsb": None, "kk-Arab": None,
    "kok": None, "ku": "kmr_Latn", "min": "min_Latn", "om": "gaz_Latn", "or": "ory_Orya", "pcm": None,
    "qu": "quy_Latn", "quz": None, "rm": None, "rw": "kin_Latn", "shn": "shn_Mymr", "sr-Latn": None,
    "ti": "tir_Ethi", "tk": "tuk_Latn", "to": None, "wo": "wol_Latn", "yue": "yue_Hant", "yue-Hans": None,
    "zh": "zho_Hans", "zh-Hant": "zho_Hant", "apc": "apc_Arab", "be-tarask": None, "en-simple": None,
    "ff": "fuv_Latn", "lah": None,
    # Ol Chiki, which NLLB tags as Bengali.
    "sat": "sat_Beng", "ko": "kor_Hang", "lv": "lvs_Latn", "ckb": "ckb_Arab",
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
SCRIPTS = {
    "arz": "Arab", "crr": "Latn", "elx": "Xsux", "quz": "Latn", "sux": "Xsux", "tlh": "Latn", "zbl": "Blis",
}  # fmt: skip
# Other English names in use, benchmarks' among them.
OTHER_NAMES = {
    "ary": ["Moroccan Darija"], "be": ["Belorussian", "Byelorussian"], "bn": ["Bengali"], "ckb": ["Sorani"],
    "cu": ["Old Church Slavonic"], "dv": ["Dhivehi", "Maldivian"], "el": ["Modern Greek"],
    "en": ["American English"],
    "es": ["Castilian"], "fa": ["Farsi", "Dari", "Dari Persian"], "fil": ["Tagalog", "Pilipino"],
    "fy": ["Frisian", "West Frisian"], "gd": ["Scots Gaelic", "Gaelic"], "gsw": ["Alemannic"],
    "he": ["Modern Hebrew"],
    "hr": ["Croat"], "ht": ["Haitian"], "id": ["Bahasa Indonesia"], "is": ["Islandic"], "jv": ["Javan"],
    "kl": ["Greenlandic"], "km": ["Cambodian", "Central Khmer"], "ko": ["South Korean"],
    "ku": ["Kurmanji", "Northern Kurdish"],
    "ky": ["Kirghiz"], "lah": ["Western Punjabi", "Western Panjabi"], "lb": ["Letzeburgesch"],
    "lg": ["Luganda"],
    "lo": ["Laotian"], "mi": ["Maori"], "ms": ["Bahasa Melayu", "Bahasa Malaysia", "Malaysian"],
    "my": ["Myanmar"],
    "nan": ["Hokkien", "Taiwanese"], "ne": ["Nepalese"], "new": ["Newar", "Nepal Bhasa"], "nn": ["Nynorsk"],
    "no": ["Bokmål", "Bokmal", "Norwegian Bokmål", "Norwegian Bokmal"], "nso": ["Sepedi"],
    "ny": ["Chichewa", "Chewa"],
    "om": ["Afaan Oromo"], "or": ["Oriya"], "pa": ["Panjabi"], "pcm": ["Naija"], "ps": ["Pushto"],
    "pt": ["Brazilian Portuguese"], "qu": ["Ayacucho Quechua"], "quz": ["Cuzco Quechua"],
    "ro": ["Moldovan", "Moldavian"],
    "rw": ["Rwanda"], "sah": ["Sakha"], "si": ["Sinhalese", "Singhalese"], "sl": ["Slovene"],
    "sr": ["Serbian (Cyrillic)"], "sr-Latn": ["Serbian (Latin)", "Serbo-Croatian"], "st": ["Sesotho"],
    "sw": ["Kiswahili"], "tk": ["Turkoman"], "tn": ["Setswana"], "tt": ["Tartar"], "ug": ["Uighur"],
    "vo": ["Volapuk"], "war": ["Waray-Waray"], "xh": ["isiXhosa"], "yi": ["Judeo-German"],
    "yue": ["Yue Chinese", "Cantonese (Traditional)"],
    "zh": ["Mandarin", "Mandarin Chinese", "Simplified Chinese", "Chinese (Simplified)", "Chinese (Simp)"],
    "zh-Hant": ["Chinese (Traditional)", "Chinese (Trad)", "Taiwanese Mandarin"], "zu": ["isiZulu"],
}  # fmt: skip

# What cuts captions into words: by language, else by script, for scripts that put no space between words.
SEGMENTERS = {"ja": "sudachi", "th": "pythainlp"}
SCRIPT_SEGMENTERS = {
    "characters": "Hani Hans Hant Jpan",
    "graphemes": "Khmr Lana Laoo Mymr Tale Talu Tavt Thai Tibt",
}
SCRIPT_SEGMENTERS = {
    script: name for name, scripts in SCRIPT_SEGMENTERS.items() for script in scripts.split()
}

# Our code of a language that mBLIP writes differently.
MBLIP_CODES = {"iw": "he"}
# Codes in use that CLDR replaces otherwise, or not at all.
ALIASES = {
    "bh": "bho", "cmn": "zh", "nb": "no", "nob": "no", "prs": "fa", "zh-yue": "yue", "zh-classical": "lzh",
}  # fmt: skip


def main(mblip: Path, localenames: Path, core: Path) -> None:
    mblip_rows = {MBLIP_CODES.get(row["code"], row["code"]): row for row in json.loads(mblip.read_text())}
    with tarfile.open(core) as archive:
        subtags = _read(archive, "supplemental/likelySubtags.json")["supplemental"]["likelySubtags"]
        metadata = _read(archive, "supplemental/aliases.json")["supplemental"]["metadata"]
        locales = _read(archive, "availableLocales.json")["availableLocales"]["full"]
    replaced = {old: entry["_replacement"] for old, entry in metadata["alias"]["languageAlias"].items()}
    with tarfile.open(localenames) as archive:
        members = {member.name for member in archive}
        english = {code: name for code, name in _names(archive, "en").items() if "-alt-" not in code}
        script_names = _display(archive, "en", "scripts")
        names = english | {code: name for code, (name, _) in FURTHER.items()}
        scripts = {code: script for code, (_, script) in FURTHER.items()} | SCRIPTS
        for code in english:
            scripts.setdefault(code, (subtags.get(code) or "--").split("-")[1])
        codes = {code for code in english if "-" not in code} - NO_LANGUAGES - replaced.keys() - {"nb"}
        codes |= FAMILIES.keys() | FURTHER.keys() | set(SECOND_SCRIPTS)
        for locale in locales:
            base, *rest = locale.split("-")
            if len(rest) == 1 and len(rest[0]) == 4 and base in codes and rest[0] != scripts.get(base):
                codes.add(locale)
        codes -= {"zh-Hans"}
        nllb = {replaced.get(code[:3], code[:3]) + code[3:]: code for code in FAIRSEQ_LANGUAGE_CODES}
        rows = []
        for code in sorted(codes):
            row = mblip_rows.get(code, {})
            base, script = code.split("-")[0], _script(code, scripts)
            name = (
                ENGLISH_NAMES.get(code) or names.get(code) or f"{names[base]} ({script_names[script]} script)"
            )
            own = OWN_NAMES.get(code)
            if own is None and f"package/main/{code}/languages.json" in members:
                theirs = _names(archive, code)
                own = theirs.get(code) or (theirs.get(base) if code != base else None)
            language = {
                "code": code,
                "name": name,
                "own_name": (own or "").partition(" (")[0] or _own_of(rows, base) or name,
                "script": script,
                "family": FAMILIES.get(code) or FAMILIES.get(base, ""),
                "nllb": NLLB[code] if code in NLLB else row.get("nllb") or nllb.get(f"{base}_{script}"),
                "mc4_share": row.get("mc4_share_percent"),
                "mt5_share": row.get("mt5_share_percent"),
                "segmenter": SEGMENTERS.get(code) or SCRIPT_SEGMENTERS.get(script, "none"),
            }
            if code in OTHER_NAMES:
                language["other_names"] = OTHER_NAMES[code]
            if row:
                language["mblip"] = {"code": row["code"], "name": row["english_name"], "nllb": row["nllb"]}
            rows.append(language)
    missing = (mblip_rows.keys() | FAMILIES.keys() | OTHER_NAMES.keys()) - {row["code"] for row in rows}
    if missing:
        raise SystemExit(f"these languages are in no row: {sorted(missing)}")
    _check_names(rows)
    aliases = _aliases(replaced, subtags, {row["code"] for row in rows})
    for row in rows:
        if row["nllb"] and row["nllb"][:3] not in codes:
            aliases.setdefault(row["nllb"][:3], row["code"])
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    OUT.write_text(f'{{"languages": [\n{lines}\n],\n"aliases": {json.dumps(aliases)}}}\n', encoding="utf-8")
    print(f"{len(rows)} languages, {len(aliases)} further spellings -> {OUT}")


def _own_of(rows: list[dict], base: str) -> str | None:
    """What a language calls itself in its usual script."""
    return next((row["own_name"] for row in rows if row["code"] == base), None)


def _script(code: str, scripts: dict[str, str]) -> str:
    tagged = [part for part in code.split("-")[1:] if len(part) == 4]
    return tagged[0] if tagged else scripts[code]


def _aliases(replaced: dict[str, str], subtags: dict[str, str], codes: set[str]) -> dict[str, str]:
    """{another code: ours}: three letters for two, withdrawn codes, and regions that write another script."""
    found = dict(ALIASES)
    for old, new in subtags.items():
        language, *region = old.split("-")
        scripted = "-".join(new.split("-")[:2])
        if language in codes and len(region) == 1 and len(region[0]) == 2 and scripted in codes:
            found[old.lower()] = scripted
    for old, new in replaced.items():
        ours = new if new in codes else found.get(new.lower()) or new.split("-")[0]
        if old not in codes and ours in codes:
            found.setdefault(old.lower().replace("_", "-"), ours)
    return dict(sorted(found.items()))


def _check_names(rows: list[dict]) -> None:
    """No name may mean two languages; two scripts of one language may share its own name."""
    seen: dict[str, str] = {}
    for row in rows:
        for name in {row["name"], row["own_name"], *row.get("other_names", [])}:
            first = seen.setdefault(name.casefold(), row["code"])
            if first.split("-")[0] != row["code"].split("-")[0]:
                raise SystemExit(f"'{name}' is of {first} and of {row['code']}")


def _names(archive: tarfile.TarFile, locale: str) -> dict[str, str]:
    return _display(archive, locale, "languages")


def _display(archive: tarfile.TarFile, locale: str, what: str) -> dict[str, str]:
    return _read(archive, f"main/{locale}/{what}.json")["main"][locale]["localeDisplayNames"][what]


def _read(archive: tarfile.TarFile, name: str) -> dict:
    file = archive.extractfile(f"package/{name}")
    assert file is not None
    return json.load(file)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(*map(Path, sys.argv[1:]))
