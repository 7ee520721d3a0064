import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from polylens.text import normalise

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def test_what_counts_as_the_same():
    for same in ("Ein  Hund", " ein hund\n", "EIN\u00a0HUND", "Ein\u2028Hund", "ein\u3000hund"):
        assert normalise(same) == "ein hund"
    assert normalise("E\u0301t\u00e9") == "\u00e9t\u00e9"
    assert normalise("STRASSE") == normalise("Straße")
    assert normalise("Σίσυφος") == normalise("ΣΊΣΥΦΟΣ")
    assert normalise("İstanbul") == normalise("i\u0307stanbul") != normalise("istanbul")


def test_nothing_else_is_the_same():
    assert normalise("t-shirt") != normalise("t shirt") != normalise("tshirt")
    assert normalise("a dog.") != normalise("a dog") != normalise("dog")
    assert normalise("می\u200cخواهم") != normalise("میخواهم")
    assert normalise("a\u200bb") != normalise("ab")
    assert normalise("ﬁ") == "fi"
    assert normalise("①") == "①"
    assert normalise("") == ""


@given(TEXTS)
def test_writing_it_otherwise_changes_nothing(text):
    for form in ("NFC", "NFD"):
        assert normalise(unicodedata.normalize(form, text)) == normalise(text)
    assert normalise(f" {text}\t") == normalise(text)
    assert normalise(normalise(text)) == normalise(text)
