import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polylens.evaluation.benchmarks.answers import (
    CONTRACTIONS,
    clean_vqa,
    lettered,
    parse_choice,
    parse_label,
    pope_says_no,
)

LABELS = ("yes", "no", "maybe")
OPTIONS = ["dog", "hot dog", "Apfelstrudel", "42"]
ANYTHING = st.text(max_size=40)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("The dog.", "dog"),
        ("Two dogs", "2 dogs"),
        ("none", "0"),
        ("t-shirt", "t shirt"),
        ("black, white", "black white"),
        ("1,000", "1000"),
        ("3.5 m.", "3.5 m"),
        ("don't know", "don't know"),
        ("dont know", "don't know"),
        ("couldntve", "couldntve"),
        ("couldnt've", "couldn't've"),
        ("Yes!", "yes"),
        ("yes ! it is", "yes it is"),
        ("on\tthe\nleft", "on left"),
        ("a  an the", ""),
        ("u.s.a.", "usa"),
        ("oclock", "o'clock"),
    ],
)
def test_vqa_cleaning(text, cleaned):
    assert clean_vqa(text) == cleaned


def test_the_table_of_contractions():
    assert not CONTRACTIONS.keys() & {"well", "were", "shed", "wed", "ill", "its", "lets", "hell", "shell"}
    assert CONTRACTIONS["y'alld've"] == CONTRACTIONS["yall'd've"] == "y'all'd've"
    assert CONTRACTIONS["somebody'd"] == "somebodyd"
    assert all(key.replace("'", "") == value.replace("'", "") for key, value in CONTRACTIONS.items())


@pytest.mark.parametrize(
    ("text", "strict", "loose"),
    [
        ("Yes", "yes", "yes"),
        (" no. ", "no", "no"),
        ("„Maybe“", "maybe", "maybe"),
        ("Yes, it is.", None, "yes"),
        ("It is not certain: maybe", None, "maybe"),
        ("yes or no", None, None),
        ("either no or yes", None, None),
        ("I do not know", None, None),
        ("nothing", None, None),
        ("", None, None),
        ("да", None, "yes"),
    ],
)
def test_labels(text, strict, loose):
    assert parse_label(text, LABELS, strict=True) == strict
    assert parse_label(text, LABELS, strict=False) == loose


@pytest.mark.parametrize(
    ("text", "says_no"),
    [
        ("No", True),
        ("no, there is none", True),
        ("There is not a dog. Yes", True),
        ("Yes, there is. But no cat.", False),
        ("Yes", False),
        ("NO", False),  # the official rule knows three spellings
        ("nothing here", False),
        ("", False),
        ("The image does not", True),
    ],
)
def test_popes_own_rule(text, says_no):
    assert pope_says_no(text) is says_no


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("B", 1),
        ("(c)", 2),
        ("b.", 1),
        ("D) 42", 3),
        ("The answer is (A).", 0),
        ("Answer: C", 2),
        ("hot dog", 1),
        ("It shows a hot dog", 1),
        ("A dog", 0),
        ("dog or Apfelstrudel", None),
        ("apfelstrudel!", 2),
        ("the number 42 is shown", 3),
        ("423", None),
        ("E", None),
        ("", None),
        ("none of these", None),
        ("Ｂ", 1),
    ],
)
def test_choices(text, place):
    assert parse_choice(text, OPTIONS) == place


def test_an_options_own_text_is_that_option():
    for place, option in enumerate(OPTIONS):
        assert parse_choice(option, OPTIONS) == place
    assert lettered(["x", "y"]) == "A. x\nB. y"


@settings(max_examples=150, deadline=None)
@given(ANYTHING, st.lists(ANYTHING, min_size=1, max_size=5))
def test_no_text_breaks_a_parser(text, options):
    assert parse_label(text, LABELS, strict=True) in (None, *LABELS)
    loose, strict = parse_label(text, LABELS, strict=False), parse_label(text, LABELS, strict=True)
    assert strict is None or loose == strict
    assert pope_says_no(text) in (True, False)
    place = parse_choice(text, options)
    assert place is None or 0 <= place < len(options)
    assert clean_vqa(text) == clean_vqa(text.strip())


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(LABELS), st.sampled_from(["{}", " {}.", "{}!\n", "({})", "«{}»"]), st.booleans())
def test_a_label_in_its_trappings_is_read(label, frame, upper):
    text = frame.format(label.upper() if upper else label)
    assert parse_label(text, LABELS, strict=True) == label
