"""In which language answers are: what is identified, what is surely another, and what is left open."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polylens.evaluation.answer_language import answer_languages

ENGLISH = [
    "A man in a red coat is walking his dog through the park.",
    "Two children are sitting on a bench and eating ice cream.",
    "There is a large old building behind the trees on the left.",
]
GERMAN = [
    "Ein Mann in einem roten Mantel geht mit seinem Hund durch den Park.",
    "Zwei Kinder sitzen auf einer Bank und essen zusammen ein Eis.",
    "Links hinter den Bäumen steht ein großes altes Gebäude.",
]
THAI = ["ผู้ชายกำลังเดินเล่นกับสุนัขในสวน"]


def test_answers_in_the_language_asked_for() -> None:
    found = answer_languages(GERMAN, "de")
    assert found.measures["language_identified"].value == 1
    assert found.measures["language_other"].value == 0
    assert found.measures["language_identified"].n == 3
    assert found.others == {}


def test_answers_in_english_are_seen() -> None:
    found = answer_languages([*ENGLISH, GERMAN[0]], "de")
    assert found.measures["language_identified"].value == 0.25
    assert found.measures["language_other"].value == 0.75
    assert found.others == {"en": 0.75}
    assert found.items["language_identified"] == [0, 0, 0, 1]


def test_an_empty_answer_is_in_no_language() -> None:
    found = answer_languages(["", "...", GERMAN[0], GERMAN[1]], "de")
    assert found.measures["language_identified"].value == 0.5
    assert found.measures["language_other"].value == 0


def test_a_script_of_its_own() -> None:
    assert answer_languages(THAI, "th").measures["language_identified"].value == 1
    assert answer_languages(THAI, "lo").others == {"th": 1.0}


@pytest.mark.parametrize("code", ["quz", "mi", "en"])
def test_languages_that_cannot_be_told_are_not_called_wrong(code: str) -> None:
    from polylens.language_id import knows

    found = answer_languages(ENGLISH, code)
    assert bool(found.measures) == knows(code)


@given(st.lists(st.text(), min_size=1, max_size=5))
@settings(deadline=None, max_examples=30)
def test_any_text(said: list[str]) -> None:
    found = answer_languages(said, "fr")
    shares = [score.value for score in found.measures.values()]
    assert all(0 <= share <= 1 for share in shares)
    assert sum(shares) <= 1 + 1e-9
    assert sum(found.others.values()) == pytest.approx(found.measures["language_other"].value)
