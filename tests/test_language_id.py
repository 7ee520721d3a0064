import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polylens.errors import UserError
from polylens.language_id import SURE, identify, knows, same
from polylens.languages import LANGUAGES
from polylens.picto.world import annotations


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Ein brauner Hund läuft über die Wiese.", "de"),
        ("A brown dog runs across the meadow.", "en"),
        ("Mbwa wa kahawia anakimbia kwenye nyasi.", "sw"),
        ("Коричневая собака бежит по лугу, а за ней идёт мальчик.", "ru"),
        ("سگ قهوه‌ای در چمنزار می‌دود و پسر به دنبال اوست.", "fa"),
        ("Isang kayumangging aso ang tumatakbo sa damuhan.", "fil"),
        ("草地上有一只棕色的狗在跑,后面跟着一个小男孩。", "zh"),
        ("En brun hund løper over engen etter en gutt som ikke vil hjem.", "no"),
    ],
)
def test_sentences(text, code):
    found, confidence = identify(text)
    assert found is not None
    assert same(found, code)
    assert confidence > SURE


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("σκύλος", "el"), ("ძაღლი", "ka"), ("สุนัข", "th"), ("개", "ko"), ("ᎩᏟ", "chr"), ("猫の顔", "ja"),
        ("イヌ", "ja"), ("நாய் (dog)", "ta"), ("שם 名 개 개 개 개", "ko"),
    ],
)  # fmt: skip
def test_a_script_of_its_own_decides_even_one_word(text, code):
    found, confidence = identify(text)
    assert found == code
    assert 0.5 < confidence <= 1


@pytest.mark.parametrize("text", ["", " ", "12:30", "!?…", "🐕", "\u200c\u2028", "<0>"])
def test_what_has_no_letters_is_in_no_language(text):
    assert identify(text) == (None, 0.0)


def test_no_confidence_where_nothing_is_known():
    assert identify("猫")[1] < SURE
    assert identify("zzgrx")[1] < SURE


def test_serbian_goes_by_its_script():
    assert same(identify("Смеђи пас трчи преко ливаде за дечаком.")[0], "sr")
    assert identify("Smeđi pas trči preko livade za dečakom, a reč je o Beogradu.")[0] in (
        "sr-Latn",
        "bs",
        "hr",
    )


def test_what_is_known():
    assert all(knows(code) for code in "de sw iw tl zh zh-Hant ja chr sr-Latn no".split())
    assert not any(knows(code) for code in "ceb wo yi kk-Arab ti".split())
    with pytest.raises(UserError):
        knows("dee")


def test_relatives():
    assert same("hr", "sr-Latn")
    assert same("de", "de")
    assert not same("de", "nl")


@given(st.text(max_size=40))
def test_any_text_gets_a_known_language_or_none(text):
    code, confidence = identify(text)
    assert 0 <= confidence <= 1
    assert code is None or (code in LANGUAGES and knows(code))


def test_what_is_sure_is_right_on_names_in_many_languages():
    rng = random.Random(0)
    sure = wrong = 0
    codes = [code for code in sorted(annotations()) if knows(code) and len(annotations()[code]) > 200]
    for code in codes:
        names = [name for name, _ in annotations()[code].values()]
        for _ in range(5):
            found, confidence = identify(" ".join(rng.sample(names, 5)))
            if confidence >= SURE:
                sure += 1
                wrong += found is None or not same(found, code)
    print(f"{len(codes)} languages, {sure} of {5 * len(codes)} texts sure, {wrong} of those wrong")
    assert sure > 0.6 * 5 * len(codes)
    assert wrong <= 0.01 * sure
