import pytest

from polylens.data.sample import Sample, Turn
from polylens.data.sides import ANYWHERE, STEMS, _pattern, names_a_side
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
        ("yue", "左邊嘅狗"),
        ("yue-Hans", "左边嘅狗"),
        ("wuu", "左边个狗"),
        ("sr", "са леве стране"),
        ("sr-Latn", "sa leve strane"),
        ("arz", "الكلب على الشمال"),
        ("arz", "الكلب على اليسار"),
        ("ary", "على اليمين"),
        ("zh", "照片left侧"),
        ("so", "eyga bidix"),
        ("uz", "chapdagi it"),
        ("uz-Cyrl", "чапдаги ит"),
        ("mn", "зүүн талд"),
        ("ky", "сол жакта"),
        ("or", "ବାମ ପାର୍ଶ୍ୱ"),
        ("as", "বাওঁফালে"),
        ("ha", "hagu"),
        ("ig", "aka ekpe"),
        ("zu", "ngakwesokunxele"),
        ("xh", "ngasekhohlo"),
        ("nn", "til høgre"),
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


def test_where_the_words_are_not_known_no_picture_is_mirrored(caplog):
    _pattern.cache_clear()
    assert names_a_side(sample("ᏗᎨ", "chr"))
    assert names_a_side(sample("ᏗᎨ", "chr"))
    # The words of its usual script are of no use in another.
    assert names_a_side(sample("ит", "az-Cyrl"))
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[0] for line in said] == [
        "No words for left and right are known in Cherokee ('chr')",
        "No words for left and right are known in Azerbaijani (Cyrillic script) ('az-Cyrl')",
    ]


def test_the_source_of_a_translation_counts_in_its_language():
    original = {"language": "de", "turns": [["", "links ein Hund"]]}
    assert names_a_side(sample("iro", "ceb", original=original))


def test_most_benchmarks_languages_have_words():
    asked = (
        "ar bn cs da de el es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw te th tr uk vi zh ta"
        " am arz bg br ga ig jv min mn mr ms om rw si su ur ha zu"
    )
    assert [code for code in asked.split() if names_a_side(sample("*", code))] == []


def test_the_question_and_the_english_original_count_as_well():
    assert names_a_side(Sample("1", (), (Turn("What is on the left?", "a dog"),), "en", "vqa", "test"))
    original = {"language": "en", "turns": [["", "a dog on the right"]]}
    assert names_a_side(sample("iro", "ceb", original=original))
    assert not names_a_side(sample("iro", "ceb", original=original | {"turns": [["", "a dog"]]}))


def test_the_tables_are_of_languages_that_there_are():
    assert set(STEMS) | set(ANYWHERE) <= set(LANGUAGES)
    assert not set(STEMS) & set(ANYWHERE)
