import pytest

from polylens.data.sample import Sample, Turn
from polylens.data.sides import ANYWHERE, STEMS, names_a_side
from polylens.languages import LANGUAGES


def sample(text, language="en", **extra):
    return Sample("1", (), (Turn("Caption: ", text),), language, "caption", "test", extra)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "A dog to the LEFT of a cat."),
        ("en", "the rightmost cup"),
        ("en", "a left-handed man"),
        ("de", "Links steht ein Hund."),
        ("de", "der rechte Schuh"),
        ("fr", "un chien à gauche"),
        ("ru", "Слева стоит дом"),
        ("ar", "الكلب على اليسار"),
        ("he", "הכלב מצד ימין"),
        ("fa", "در سمت چپ"),
        ("hi", "कुत्ता बाएँ है"),
        ("zh", "狗在左边"),
        ("zh-Hant", "右邊的貓"),
        ("ja", "右側の犬"),
        ("ko", "왼쪽에 있는 개"),
        ("th", "หมาอยู่ทางซ้าย"),
        ("sw", "mbwa upande wa kushoto"),
        ("vi", "con chó bên trái"),
        ("tr", "Sağdaki köpek"),
        ("yo", "ní apá o\u0300si\u0300"),  # decomposed
    ],
)
def test_texts_that_name_a_side(language, text):
    assert names_a_side(sample(text, language))


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "A bright copyright notice, leftover food, a righteous man."),
        ("de", "Ein Hund auf einer Wiese."),
        ("tr", "Bir resim solmuş değil mi"),  # begins like 'sol': kept upright, which does no harm
        ("zh", "一只狗"),
        ("sw", "mbwa"),
        ("ceb", "iro"),
    ],
)
def test_texts_that_name_none(language, text):
    assert names_a_side(sample(text, language)) == (language == "tr")


def test_the_question_and_the_english_original_count_as_well():
    assert names_a_side(Sample("1", (), (Turn("What is on the left?", "a dog"),), "en", "vqa", "test"))
    original = {"language": "en", "turns": [["", "a dog on the right"]]}
    assert names_a_side(sample("iro", "ceb", original=original))
    assert not names_a_side(sample("iro", "ceb", original=original | {"turns": [["", "a dog"]]}))


def test_the_tables_are_of_languages_that_there_are():
    assert set(STEMS) | set(ANYWHERE) <= set(LANGUAGES)
    assert not set(STEMS) & set(ANYWHERE)
