import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polylens.data.prompts import DEFAULT, MBLIP, Templates, caption_prompt, read_templates
from polylens.errors import UserError
from polylens.languages import LANGUAGES, mblip_language


def test_mblips_protocol():
    assert caption_prompt("de") == MBLIP.prompt("caption", "de") == "Caption in German: "
    assert MBLIP.prompt("vqa", "en", question="Who?") == "Question: Who? Short answer in English:"
    assert MBLIP.prompt("vqa", "fr", question="Qui ?") == "Question: Qui ? Short answer in French:"
    assert MBLIP.prompt("entailment", "en", hypothesis="It rains.") == (
        'Is it guaranteed true that "It rains."? Yes, no, or maybe? Answer in English:'
    )
    assert MBLIP.prompt("reasoning", "zh", statement="右图") == (
        'Based on the two images, is it correct to say "右图"? Yes or no? Answer in English:'
    )
    assert MBLIP.prompt("pope", "en", question="Is there a dog?") == "Is there a dog?"
    assert MBLIP.prompt("chair", "en") == "Caption in English:"
    assert (
        MBLIP.prompt("chair_detail", "en") == "Describe the image in English with as much detail as possible."
    )


# The names that mBLIP's evaluation files of XM3600 hold, in the order of its languages.
XM3600 = "fa te ko fi fil mi hu id hr fr quz sv zh sw no vi da ja nl he th ru it hi uk de pt tr cs pl bn ar ro en es el"
XM3600_NAMES = (
    "Farsi Telugu Korean Finnish Filipino Maori Hungarian Indonesian Croatian French Quechua Swedish Chinese Swahili"
    " Norwegian Vietnamese Danish Japanese Dutch Hebrew Thai Russian Italian Hindi Ukranian German Portugese Turkish"
    " Czech Polish Bengali Arabic Romanian English Spanish Greek"
)


@pytest.mark.parametrize(
    ("code", "name"), list(zip(XM3600.split(), XM3600_NAMES.split(), strict=True)), ids=XM3600.split()
)
def test_mblips_evaluation_names_its_languages_in_its_own_way(code, name):
    assert MBLIP.prompt("caption", code) == f"Caption in {name}: "


def test_mblips_training_and_evaluation_names_are_two_tables():
    assert MBLIP.prompt("vqa", "iw", question="?") == "Question: ? Short answer in Hebrew:"
    training = {code: mblip_language(code).name for code in ("he", "fa", "bn", "uk", "pt")}
    assert list(training.values()) == ["former Hebrew", "Persian", "Bangla", "Ukrainian", "Portuguese"]


@given(st.sampled_from(sorted(LANGUAGES)))
def test_every_language_is_named_in_english(code):
    assert LANGUAGES[code].name in DEFAULT.prompt("caption", code)


def test_translated_templates_come_first_and_english_ones_fall_back():
    german = {"caption": {"de": ["Bildunterschrift auf {own_language}: "]}}
    templates = Templates("t", {"caption": ["Caption in {language}: "]}, german)
    assert templates.prompt("caption", "DE") == "Bildunterschrift auf Deutsch: "
    assert templates.prompt("caption", "sw") == "Caption in Swahili: "


def test_templates_are_drawn_repeatably():
    drawn = {DEFAULT.prompt("caption", "de", random.Random(seed)) for seed in range(50)}
    assert len(drawn) == len(DEFAULT.of("caption", "de")) > 1
    assert DEFAULT.prompt("caption", "de", random.Random(3)) == DEFAULT.prompt(
        "caption", "de", random.Random(3)
    )


@given(st.text())
def test_given_texts_stay_as_they_are(question):
    assert question in MBLIP.prompt("pope", "en", question=question)
    assert MBLIP.prompt("vqa", "en", question="{x} {") == "Question: {x} { Short answer in English:"


def test_mistakes_are_named():
    with pytest.raises(UserError, match="have no task 'captions': choose from caption, chair"):
        MBLIP.prompt("captions", "de")
    with pytest.raises(UserError, match="needs a value for 'question'"):
        MBLIP.prompt("vqa", "de")
    with pytest.raises(UserError, match="Unknown language"):
        MBLIP.prompt("caption", "dee")
    for broken in ("{", "{}", "{0}", "{language.name}", "{a b}"):
        with pytest.raises(UserError, match="has broken braces"):
            Templates("t", {"caption": [broken]})
        with pytest.raises(UserError, match="has broken braces"):
            Templates("t", {"caption": ["ok"]}, {"caption": {"de": [broken]}})
    with pytest.raises(UserError, match="no template for 'caption'"):
        Templates("t", {"caption": []})


def test_two_spellings_of_a_language_are_refused(tmp_path):
    path = tmp_path / "templates.json"
    path.write_text(json.dumps({"caption": {"de": ["Bild: "], "German": ["Foto: "]}}))
    with pytest.raises(UserError, match="caption: 'German' is a second spelling of 'de'"):
        read_templates(path)
