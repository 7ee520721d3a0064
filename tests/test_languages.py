import json
import lzma
import os
import re
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

from polylens.errors import UserError
from polylens.languages import (
    ALIASES,
    LANGUAGES,
    MBLIP_LANGUAGES,
    language,
    language_codes,
    mblip_language,
    parse_languages,
    related_codes,
)

XM3600 = str.split(
    "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw te th tr uk "
    "vi zh"
)
OTHER_BENCHMARKS = str.split("iw ta ja ru bg br arz ga jv rw ms mr min mn om si su ur am ig ro es")
CODES = st.sampled_from(sorted(LANGUAGES))
MBLIP_TABLE = Path(os.environ.get("POLYLENS_SHARED", Path(__file__).parents[2] / "shared")) / "data"


def test_every_language_of_picto_and_of_the_benchmarks_is_known():
    packed = files("polylens.picto").joinpath("packaged/annotations.json.xz").read_bytes()
    picto = json.loads(lzma.decompress(packed))
    assert len(picto) > 100
    assert set(picto) <= set(LANGUAGES)
    assert len(XM3600) == 36
    assert [language(code).code for code in XM3600] == XM3600
    assert all(language(code) for code in OTHER_BENCHMARKS)


def test_the_table_is_complete_and_sorted():
    assert list(LANGUAGES) == sorted(LANGUAGES)
    for code, entry in LANGUAGES.items():
        assert code == entry.code
        assert entry.name
        assert entry.own_name
        assert "(" not in entry.own_name
        assert len(entry.script) == 4
        assert entry.script.istitle()
        assert entry.family == "" or entry.family[0].isupper()
        assert entry.segmenter in ("none", "characters", "sudachi", "pythainlp", "graphemes")
        assert entry.nllb is None or entry.nllb in FAIRSEQ_LANGUAGE_CODES
        if entry.nllb and entry.code not in ("ko", "sat"):
            assert entry.nllb.endswith(entry.script)


def test_names_are_unique():
    for attribute in ("name", "nllb"):
        values = [getattr(entry, attribute) for entry in LANGUAGES.values() if getattr(entry, attribute)]
        assert len(values) == len(set(values))
    # Only scripts of one language share what it calls itself.
    by_own_name = {}
    for code, entry in LANGUAGES.items():
        assert by_own_name.setdefault(entry.own_name, code.split("-")[0]) == code.split("-")[0]


def test_mblips_values_stay_in_mblips_table():
    assert len(MBLIP_LANGUAGES) == 96
    assert (language("iw").code, language("iw").name, language("zh").nllb) == ("he", "Hebrew", "zho_Hans")
    assert mblip_language("he") == mblip_language("iw")
    assert (mblip_language("he").code, mblip_language("he").name) == ("iw", "former Hebrew")
    assert mblip_language("zh").nllb == "zho_Hant"
    assert mblip_language("hr").name == "Croatian"


@pytest.mark.skipif(not MBLIP_TABLE.exists(), reason="mBLIP's table is not beside this checkout")
def test_shares_and_codes_are_those_of_mblips_table():
    rows = json.loads((MBLIP_TABLE / "languages_mblip.json").read_text())
    for row in rows:
        entry, theirs = language(row["code"]), mblip_language(row["code"])
        assert (entry.mc4_share, entry.mt5_share) == (row["mc4_share_percent"], row["mt5_share_percent"])
        assert (theirs.code, theirs.name, theirs.nllb) == (row["code"], row["english_name"], row["nllb"])
        assert entry.nllb == row["nllb"] or entry.code in ("ku", "zh")


@pytest.mark.parametrize(
    ("alias", "code"),
    [
        ("iw", "he"), ("in", "id"), ("nb", "no"), ("tl", "fil"), ("jw", "jv"), ("zh-Hans", "zh"),
        ("zh-CN", "zh"), ("zh_hans_CN", "zh"), ("ZH_TW", "zh-Hant"), ("zh-hant", "zh-Hant"), ("pt-BR", "pt"),
        ("es-419", "es"), ("sr-Cyrl", "sr"), ("sr_latn", "sr-Latn"), (" de ", "de"), ("deu_Latn", "de"),
        ("zho_Hant", "zh-Hant"), ("tgl_Latn", "fil"), ("he-IL", "he"), ("cmn", "zh"), ("deu", "de"), ("ger", "de"),
        ("nob", "no"), ("quy", "qu"), ("zh-HK", "zh-Hant"), ("yue-CN", "yue-Hans"), ("pa_PK", "pa-Arab"),
        ("sr-ME", "sr-Latn"), ("uz-Latn-UZ", "uz"), ("de-1996", "de"), ("ca-ES-valencia", "ca"), ("zh-min-nan", "nan"),
    ],
)  # fmt: skip
def test_aliases(alias, code):
    assert language(alias).code == code


@given(CODES, st.data())
def test_case_and_underscores_do_not_matter(code, data):
    spelled = "".join(data.draw(st.sampled_from((c.lower(), c.upper()))) for c in code).replace("-", "_")
    assert language(spelled).code == code


@given(st.text(max_size=12))
def test_any_text_is_a_language_or_a_user_error(text):
    with suppress(UserError):
        assert language(text).code in LANGUAGES


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("dee", "de"),
        ("Germna", "de"),
        ("deutsh", "de"),
        ("Bangali", "bn"),
        ("Portuguese (Brazil)", "pt"),
        ("zh-Hnat", "zh-Hant"),
        ("Swahilli", "sw"),
        ("fill", "fil"),
    ],
)
def test_typos_name_the_nearest(wrong, near):
    with pytest.raises(UserError, match=re.escape(f"'{wrong}': did you mean '{near}' ")):
        language(wrong)


@pytest.mark.parametrize("code", sorted(LANGUAGES))
def test_every_name_of_a_language_is_read(code):
    entry = LANGUAGES[code]
    # These are codes of other languages, and a code is never read as a name.
    names = {entry.name, *entry.other_names} - {"Ga", "Kom", "Mon"}
    for name in names:
        assert language(name).code == code
        assert language(name.upper().replace(" ", "_")).code == code
    if entry.own_name not in ("Ga", "Kom", "Mon"):
        assert language(entry.own_name).code.split("-")[0] == code.split("-")[0]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("Bengali", "bn"), ("Bangla", "bn"), ("বাংলা", "bn"), ("Farsi", "fa"), ("Egyptian_Arabic", "arz"),
        ("Sinhala", "si"), ("Kinyarwanda", "rw"), ("deutsch", "de"), ("Русский", "ru"),
        ("Tiê\u0301ng Viê\u0323t", "vi"),
        ("Norwegian", "no"), ("Norwegian Bokmål", "no"), ("norsk nynorsk", "nn"), ("Chinese", "zh"),
        ("Traditional Chinese", "zh-Hant"), ("Mandarin", "zh"), ("Tagalog", "fil"), ("Oriya", "or"), ("Berber", "ber"),
    ],
)  # fmt: skip
def test_names(name, code):
    assert language(name).code == code


def test_languages_of_cldr_that_people_have_captions_in():
    asked = "ach an ast ff nn nso vec kab".split()
    assert [language(code).code for code in asked] == asked
    assert [language(code).nllb for code in asked] == [
        None, None, "ast_Latn", "fuv_Latn", "nno_Latn", "nso_Latn", "vec_Latn", "kab_Latn",
    ]  # fmt: skip


def test_a_name_is_never_cut_to_a_code():
    for text in ("in-german", "no_language", "de-facto", "it is", "to-do-list"):
        with pytest.raises(UserError):
            language(text)


def test_unknown_languages_are_named_together():
    assert language_codes(["de", "iw", "he", "German"]) == ["de", "he"]
    with pytest.raises(
        UserError, match=r"^2 unknown languages: 'xx': give .*; 'Swahilli': did you mean 'sw'.*\.$"
    ):
        language_codes(["xx", "de", "Swahilli"])
    with pytest.raises(UserError, match=r"^Unknown language 'xx': "):
        parse_languages("de,xx")


def test_look_ups_fall_back_to_the_usual_script_and_the_macrolanguage():
    assert related_codes("yue-Hans") == ["yue-Hans", "yue", "zh"]
    assert related_codes("sr-Latn") == ["sr-Latn", "sr"]
    assert related_codes("arz") == ["arz", "ar"]
    assert related_codes("de") == ["de"]


def test_nonsense_gets_an_example():
    with pytest.raises(UserError, match="BCP 47 code such as 'de'"):
        language("12345")


@given(
    st.lists(CODES | st.sampled_from(sorted(ALIASES)), min_size=1), st.sampled_from([",", ", ", " ,", ",,"])
)
def test_lists_keep_their_order_and_name_each_once(codes, comma):
    parsed = parse_languages(comma.join(codes))
    assert parsed == list(dict.fromkeys(language(code).code for code in codes))


def test_lists_stay_within_what_is_known():
    assert parse_languages("all", ["sw", "de"]) == ["sw", "de"]
    assert parse_languages("ALL") == list(LANGUAGES)
    assert parse_languages("de", ["sw", "de"]) == ["de"]
    with pytest.raises(UserError, match=r"'fr' \(French\), 'yo' \(Yoruba\) here: choose from sw, de\."):
        parse_languages("fr,de,yo", ["sw", "de"])
    for text in ("", " ", ",", " , "):
        with pytest.raises(UserError, match="No language in"):
            parse_languages(text)
