import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polylens.evaluation.caption_metrics.ptb import DROPPED, tokenise

# Made by tools/measure_ptb.py with the Java program: probes of its rules, names in 100 languages, mixtures.
CASES = json.loads((Path(__file__).parent / "ptb_cases.json").read_text(encoding="utf-8"))


def test_tokens_are_the_java_programs():
    assert len(CASES) > 1300
    wrong = [(text, tokens, tokenise(text)) for text, tokens in CASES if tokenise(text) != tokens]
    assert not wrong


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A man's dog isn't here, it's \"quoted\".", "a man 's dog is n't here it 's quoted"),
        ("He cannot go (maybe)!!", "he can not go -lrb- maybe -rrb- !!"),
        ("l'homme qu'il aujourd'hui", "l'homme qu'il aujourd hui"),
        ("t-shirt and/or AT&T 50% $5 1,000.5 10:30am", "t-shirt and/or at&t 50 % $ 5 1,000.5 10:30 am"),
        ("Mr. A. of the U.S. etc.", "mr. a. of the u.s. etc."),
        ("At point A. The man", "at point a the man"),
        ("", ""),
        (" \u200b\u3000 ", ""),
    ],
)
def test_english_and_french(text, tokens):
    assert tokenise(text) == tokenise(text, complete=True) == tokens.split()


def test_a_token_may_hold_a_no_break_space():
    assert tokenise("5 1/2 inches") == ["5\u00a01/2", "inches"]


def test_line_ends_inside_a_caption_are_spaces():
    for end in "\r\n\x0b\x0c\x85\u2028\u2029":
        assert tokenise(f"a dog{end}runs.") == ["a", "dog", "runs"]


def test_turkish_dotted_i():
    assert tokenise("İstanbul IŞIK ılık") == ["i̇stanbul", "işik", "ılık"]
    assert tokenise("İSTANBUL") == ["i̇stanbul"]


def test_what_the_java_program_drops_is_kept_where_asked():
    persian, burmese, khmer, sinhala = "می\u200cخواهم", "ခွေးတစ်ကောင်", "ឆ្កែ", "ශ්\u200dරී"
    assert tokenise(persian) == ["می", "خواهم"]
    for word in (persian, burmese, khmer, sinhala):
        assert tokenise(f"{word}, {word}.", complete=True) == [word, word]
        assert len(tokenise(word)) > 1
    assert tokenise("\u200cکتاب\u200c \u200d", complete=True) == ["کتاب"]


@settings(max_examples=300, deadline=None)
@given(st.text(), st.booleans())
def test_any_text_gives_lower_case_tokens_without_punctuation(text, complete):
    for token in tokenise(text, complete=complete):
        assert token
        assert " " not in token
        assert token == token.lower()
        assert token not in DROPPED


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["dog", "Hund", "собака", "犬", "كلب"]), max_size=6))
def test_plain_words_are_themselves(words):
    assert tokenise(" ".join(words) + ".") == [word.lower() for word in words]


@pytest.mark.parametrize(
    "text", ["a" * 20_000, "a-" * 10_000, "a." * 10_000, "<a " * 5_000, "a@" * 5_000, "'" * 9_000]
)
def test_long_nonsense_takes_no_long_time(text):
    start = time.process_time()
    tokenise(text)
    assert time.process_time() - start < 20
