import pytest
from hypothesis import given
from hypothesis import strategies as st

from polylens.data.sentences import num_sentences
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
        ("यह क्या है?यह कुत्ता है।वह है।", ["यह क्या है?यह कुत्ता है।", "वह है।"]),
        ("ما هذا؟ هذا كلب.", ["ما هذا؟", "هذا كلب."]),
        ("یہ کتا ہے۔ وہ بلی ہے۔", ["یہ کتا ہے۔", "وہ بلی ہے۔"]),
        ("ሰላም። ውሻ ነው።", ["ሰላም።", "ውሻ ነው።"]),
        ("Ինչ է սա։ Սա շուն է։", ["Ինչ է սա։", "Սա շուն է։"]),
        ("ဒါက ဘာလဲ။ ဒါက ခွေး၊ ကြောင်ပါ။", ["ဒါက ဘာလဲ။", "ဒါက ခွေး၊ ကြောင်ပါ။"]),
        ("នេះជាអ្វី។ នេះជាឆ្កែ។", ["នេះជាអ្វី។", "នេះជាឆ្កែ។"]),
        ("ཁྱི་ཡིན། བྱི་ལ་ཡིན།", ["ཁྱི་ཡིན།", "བྱི་ལ་ཡིན།"]),
        ("Τι είναι; Είναι σκύλος.", ["Τι είναι;", "Είναι σκύλος."]),
        ("Red; Blue", None),
        ("他说：「你好。」她走了！！好？", ["他说：「你好。」", "她走了！！", "好？"]),
        ("Hunde, z. B. Pudel, am 3. Mai. Dann", ["Hunde, z. B. Pudel, am 3. Mai.", "Dann"]),
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


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("The flag 🇩🇪 flies.", "🇩🇪"),
        ("Press 1️⃣ now.", "1️⃣"),
        ("Press #⃣ now.", "#⃣"),
        ("England 🏴󠁧󠁢󠁥󠁮󠁧󠁿 wins.", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"),
        ("A family 👨‍👩‍👧‍👦🏳️‍🌈 here.", "👨‍👩‍👧‍👦🏳️‍🌈"),
        ("A thumb 👍🏽 up.", "👍🏽"),
        ("看https://a.b/c这个网站。", "https://a.b/c"),
        ("请访问https://a.b/c?d=e&f，谢谢。", "https://a.b/c?d=e&f"),
        ("これはwww.a.jp/bです。", "www.a.jp/b"),
        ("See (https://a.b/Cat_(animal)) now.", "https://a.b/Cat_(animal)"),
        ("See https://a.b/c.", "https://a.b/c"),
        ("Schau https://de.wikipedia.org/wiki/Käse an.", "https://de.wikipedia.org/wiki/Käse"),
        ("请写信给me@home.org联系我。", "me@home.org"),
        ("यह #कुत्ता है", "#कुत्ता"),
        ("我喝Coca Cola吧。", "Coca Cola"),
        ("我喝可乐吧。", "可乐"),
    ],
)
def test_what_is_kept_is_kept_whole_in_any_script(text, kept):
    before, _, after = text.partition(kept)
    pieces = cut(text, ["Coca Cola", "可乐"])
    assert [piece.text for piece in pieces if not piece.open and piece.text.strip(" .。)(")] == [kept]
    assert "".join(piece.text for piece in pieces) == before + kept + after


def test_sentences_are_counted_as_they_are_cut():
    for text in ("ဒါက ဘာလဲ။ ဒါက ခွေးပါ။", "A dog. A cat.", "狗。猫。", "ما هذا؟ هذا كلب."):
        assert num_sentences(text) == len(opened(text)) == 2


@pytest.mark.parametrize(
    ("label", "code"),
    [("Roter Hund", "de"), ("Kleng Kaz", "lb"), ("NEIN", "de"), ("JA", "de"), ("HAYIR", "tr"), ("3匹の犬", "ja"),
     ("3마리", "ko"), ("5 собак", "ru")],
)  # fmt: skip
def test_words_of_other_languages_are_not_taken_for_names(label, code):
    assert not is_kept_whole(label, code)


def test_names_of_other_languages_are_kept():
    assert is_kept_whole("Ciudad de la Habana", "es")
    assert is_kept_whole("BMW", "de")


@pytest.mark.parametrize("label", ["2", "12:30", "$5", "BMW", "NYC", "McDonald's", "Coca Cola", "B52", "1st 2nd",
                                   "Statue of Liberty", "Big Ben", "!", "7up"])  # fmt: skip
def test_numbers_codes_and_names_are_kept(label):
    assert is_kept_whole(label)


@pytest.mark.parametrize("label", ["yes", "YES", "NO", "Yes", "red", "two dogs", "Red car", "a BMW", "on the 2nd floor",
                                   "The man in the red hat is John"])  # fmt: skip
def test_words_are_not(label):
    assert not is_kept_whole(label)
