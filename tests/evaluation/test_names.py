import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import CHRF

from polylens.errors import UserError
from polylens.evaluation.names import chrf, chrf_score, exact_match, exact_match_score

TEXTS = st.text(st.sampled_from("ab cé日本\u200c"), max_size=12)


def test_exact_match_of_any_reference():
    assert exact_match("Der  HUND", "der Hund") == 1.0
    assert exact_match("Hund", ["Katze", "hund"]) == 1.0
    assert exact_match("Hunde", ["Katze", "hund"]) == 0.0
    assert exact_match("a", "abc") == 0.0
    score = exact_match_score(["a", "b", "C", "d"], ["a", "x", ["c", "y"], "z"])
    assert (score.value, score.n) == (0.5, 4)
    assert 0 <= score.low < 0.5 < score.high <= 1


def test_chrf_worked_by_hand():
    # "abc" and "abd": 1-grams match 2 of 3, 2-grams 1 of 2, 3-grams 0 of 1; no longer ones.
    mean = (2 / 3 + 1 / 2 + 0) / 3
    assert chrf("abc", "abd") == pytest.approx(100 * mean)
    assert chrf("abd", ["xyz", "abd"]) == pytest.approx(100)
    assert chrf("猫", "猫") == 100
    assert chrf("", "a") == 0


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=6))
def test_corpus_chrf_is_sacrebleus(items):
    predictions, references = [prediction for prediction, _ in items], [texts for _, texts in items]
    padded = [[*texts, *[None] * (3 - len(texts))] for texts in references]
    theirs = CHRF().corpus_score(predictions, list(zip(*padded, strict=True))).score
    assert chrf_score(predictions, references).value == pytest.approx(theirs, abs=1e-9)


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_corpus_of_one_sentence_is_the_sentence(prediction, reference):
    score = chrf_score([prediction], [reference])
    assert score.value == score.low == score.high == pytest.approx(chrf(prediction, reference), abs=1e-9)


def test_intervals_of_chrf():
    predictions = ["a dog", "a cat", "a bird", "a horse", "nothing"] * 20
    score = chrf_score(predictions, ["a dog", "the cat", "bird", "horses", "a fish"] * 20)
    assert score.low < score.value < score.high
    assert score.n == 100


def test_mistakes_are_named():
    with pytest.raises(UserError, match="2 predictions and 1 references"):
        exact_match_score(["a", "b"], ["a"])
    with pytest.raises(UserError, match="Item 1 has no reference"):
        chrf_score(["a", "b"], ["a", []])
    for score in (exact_match_score, chrf_score):
        with pytest.raises(UserError, match="0 items"):
            score([], [])
