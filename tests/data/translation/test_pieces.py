import pytest
from hypothesis import given
from hypothesis import strategies as st

from polylens.data.translation.pieces import cut, is_kept_whole, join

PLACEHOLDERS = ["<image>", "{question}", "{0}", "https://a.b/c?d=e&f", "me@home.org", "`x = 1`", "%(name)s", "%d",
                "@somebody", "#tag", "👩🏽‍🚒", "❤️", "</b>"]  # fmt: skip
WORDS = st.text("abcdefgh ÄßИ中ا.!?\n\u2028,12", max_size=20)
MIXED = st.lists(WORDS | st.sampled_from(PLACEHOLDERS), max_size=8).map(" ".join)


def opened(text, kept=()):
    return [piece.text for piece in cut(text, kept) if piece.open]


@given(st.text(max_size=80) | MIXED)
def test_pieces_joined_are_the_text(text):
    pieces = cut(text)
    assert "".join(piece.text for piece in pieces) == text
    for piece in pieces:
        assert piece.text
        assert not piece.open or (piece.text == piece.text.strip() and any(c.isalpha() for c in piece.text))


@given(MIXED)
def test_a_translator_that_changes_nothing_gives_the_text_back(text):
    assert join(cut(text), lambda sentence: sentence, "de") == text


@given(st.lists(st.tuples(st.sampled_from(PLACEHOLDERS), WORDS), min_size=1, max_size=6))
def test_whatever_the_translator_does_placeholders_come_out_in_their_order(parts):
    text = " ".join(f"{words} {placeholder}" for placeholder, words in parts)
    seen = []

    def spoil(sentence):
        seen.append(sentence)
        return "ΩΩ"

    translated = join(cut(text), spoil, "de")
    rest = translated
    for placeholder, _ in parts:
        _, found, rest = rest.partition(placeholder)
        assert found, (text, translated)
    assert not any(placeholder in sentence for sentence in seen for placeholder in PLACEHOLDERS)


@given(MIXED, st.sampled_from(["de", "zh", "ja"]))
def test_one_sentence_without_translation_is_none_for_all(text, target):
    refused = join(cut(text), lambda sentence: None, target)
    assert (refused is None) == bool(opened(text))


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("A dog runs. It is brown!", ["A dog runs.", "It is brown!"]),
        ("Mr. Smith, e.g. J. Smith, has 3.5 dogs in the U.S. today.", None),
        ("First line\nsecond line\u2028third", ["First line", "second line", "third"]),
        ("这是狗。那是猫。", ["这是狗。", "那是猫。"]),
        ('He said "Go." Then he went.', ['He said "Go."', "Then he went."]),
        ("यह कुत्ता है। वह बिल्ली है।", ["यह कुत्ता है।", "वह बिल्ली है।"]),
        ("12:30", []),
        ("", []),
    ],
)  # fmt: skip
def test_sentences(text, sentences):
    assert opened(text) == ([text] if sentences is None else sentences)


def test_no_space_between_sentences_where_the_script_has_none():
    text = "A dog. A cat.\nA cow."
    assert join(cut(text), lambda sentence: "狗。", "zh") == "狗。狗。\n狗。"
    assert join(cut(text), lambda sentence: "Hund.", "de") == "Hund. Hund.\nHund."
    assert join(cut("狗。猫。"), lambda sentence: "Hund.", "de") == "Hund. Hund."
    assert join(cut("狗。猫。"), lambda sentence: "犬。", "ja") == "犬。犬。"


def test_kept_words_are_not_shown_to_the_translator():
    text = "a Coca Cola can and a coca cola sign, not colas"
    assert opened(text, ["Coca Cola", "cola"]) == ["a", "can and a", "sign, not colas"]


@pytest.mark.parametrize("label", ["2", "12:30", "$5", "BMW", "NYC", "McDonald's", "Coca Cola", "B52", "1st 2nd",
                                   "Statue of Liberty", "Big Ben", "!", "7up"])  # fmt: skip
def test_numbers_codes_and_names_are_kept(label):
    assert is_kept_whole(label)


@pytest.mark.parametrize("label", ["yes", "YES", "NO", "Yes", "red", "two dogs", "Red car", "a BMW", "on the 2nd floor",
                                   "The man in the red hat is John"])  # fmt: skip
def test_words_are_not(label):
    assert not is_kept_whole(label)
