import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polylens.evaluation.benchmarks.chair import mentioned
from polylens.evaluation.benchmarks.chair import score as score_chair
from polylens.evaluation.benchmarks.interface import Question
from polylens.evaluation.benchmarks.protocols import PROTOCOLS
from polylens.evaluation.benchmarks.scoring import (
    AnswerScorer,
    LabelScorer,
    MaxmScorer,
    a_third_each,
    any_of,
    leave_one_out,
    majority,
    score_captions,
    score_choices,
    score_names,
    score_pope,
)

MBLIP, RAW, PALIGEMMA = PROTOCOLS["mblip"], PROTOCOLS["raw"], PROTOCOLS["paligemma"]
ANYTHING = st.text(max_size=20)


def ask(*answers, number=0, language="en", **more):
    return Question(id=str(number), images=(f"{number}.jpg",), language=language, answers=answers, **more)


def several(*answers, **more):
    return [ask(*mine, number=number, **more) for number, mine in enumerate(answers)]


def values(scores):
    return {name: score.value for name, score in scores.measures.items()}


@pytest.mark.parametrize(("hits", "credit"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_vqa_accuracy_leaves_each_annotator_out(hits, credit):
    references = ["dog"] * hits + ["cat"] * (10 - hits)
    left_out = [min(1, (references[:i] + references[i + 1 :]).count("dog") / 3) for i in range(10)]
    assert leave_one_out("dog", references) == pytest.approx(sum(left_out) / 10)
    assert leave_one_out("dog", references) == pytest.approx(credit)
    assert a_third_each("dog", references) == pytest.approx(min(1, hits / 3))


def test_mblip_does_not_clean_labels_and_both_scores_are_shown():
    scorer = AnswerScorer("accuracy", any_of)
    questions = several(["t-shirt"], ["dog"])
    by_mblip = scorer(questions, ["t-shirt", "A dog."], MBLIP)
    assert values(by_mblip) == {"accuracy": 0.5, "accuracy_labels_cleaned": 1.0, "relaxed_accuracy": 0.5}
    assert by_mblip.settings["labels_cleaned"] is False
    assert values(scorer(questions, ["t-shirt", "A dog."], RAW)) == {
        "accuracy": 1.0,
        "accuracy_labels_as_written": 0.5,
    }


def test_maxm_is_lower_cased_and_stripped_only_by_mblip():
    questions = several(["la maison", "maison"], ["2"], language="fr")
    said = [" La Maison ", "deux"]
    assert values(MaxmScorer()(questions, said, MBLIP))["accuracy"] == 0.5
    # English articles and number words are no rule of French.
    assert values(MaxmScorer()(several(["a"], ["one"], language="ro"), ["a", "one"], RAW))["accuracy"] == 1


def test_what_cannot_be_read_is_wrong_and_counted():
    scorer = LabelScorer(("yes", "no"))
    questions = several(["yes"], ["no"], ["yes"], ["no"])
    scores = scorer(questions, ["I cannot tell", "No, sir", "yes", ""], RAW)
    assert values(scores) == {"accuracy": 0.5, "unread": 0.5}
    assert scores.items["accuracy"] == [0, 1, 1, 0]
    assert values(scorer(questions, ["Yes it is", "no", "yes", "no"], MBLIP)) == {
        "accuracy": 0.75,
        "unread": 0.25,
        "relaxed_accuracy": 1.0,
    }


def test_relaxed_accuracy_counts_answers_that_begin_or_end_with_a_right_one():
    questions = several(["dog"], ["dog"], ["dog"], ["dog"])
    said = ["a dog", "dog, brown", "the dogs", "no dog here"]
    assert values(AnswerScorer("accuracy", any_of)(questions, said, MBLIP))["relaxed_accuracy"] == 0.75
    assert "relaxed_accuracy" not in values(AnswerScorer("accuracy", any_of)(questions, said, RAW))


def test_choices():
    questions = several(["B"], ["A"], extra={"options": ["dog", "cat"]})
    assert values(score_choices(questions, ["cat", "(A)"], RAW)) == {"accuracy": 1.0, "unread": 0.0}
    assert values(score_choices(questions, ["bird", "B"], RAW)) == {"accuracy": 0.0, "unread": 0.5}


def test_names():
    assert values(score_names(several(["Hund"], ["Katze"]), ["hund", "Katzen"], RAW)) == {"accuracy": 0.5}


def test_pope_by_hand():
    questions = several(["yes"], ["yes"], ["no"], ["no"])
    scores = values(score_pope(questions, ["Yes", "No, it is not.", "yes.", "nothing"], RAW))
    assert scores["accuracy"] == 0.25
    assert scores["precision"] == pytest.approx(1 / 3)
    assert scores["recall"] == 0.5
    assert scores["f1"] == pytest.approx(0.4)
    # Of the predictions, not of the labels.
    assert scores["yes_ratio"] == 0.75
    none = values(score_pope(questions, ["no"] * 4, RAW))
    assert (none["precision"], none["recall"], none["f1"], none["yes_ratio"]) == (0, 0, 0, 0)


SYNONYMS = {
    name: names[0]
    for names in (
        ["person", "man", "woman", "people", "child", "baby"],
        ["dog", "puppy"],
        ["bird"],
        ["hot dog"],
        ["knife"],
        ["bus"],
        ["tie"],
        ["wine glass"],
        ["chair", "seat"],
        ["toilet"],
        ["bench"],
        ["train"],
        ["traffic light", "street light"],
    )
    for name in names
}


@pytest.mark.parametrize(
    ("caption", "objects"),
    [
        ("Two men and a puppy.", ["person", "dog"]),
        ("A hot dog", ["hot dog"]),
        ("Two hot dogs", ["hot dog"]),
        ("A baby bird", ["bird"]),
        ("a baby", ["person"]),
        ("a passenger train", ["train"]),
        ("a bow tie", ["tie"]),
        ("a white toilet seat", ["toilet"]),
        ("an empty seat", ["chair"]),
        ("wine glasses and knives", ["wine glass", "knife"]),
        ("Buses, benches", ["bus", "bench"]),
        ("a street light", ["traffic light"]),
        ("dogs chase a dog", ["dog", "dog"]),
        ("a doghouse", []),
        ("", []),
    ],
)
def test_objects_of_a_caption(caption, objects):
    assert mentioned(caption, SYNONYMS) == objects


def test_chair_by_hand():
    questions = several(["dog"], ["person", "dog"], extra={"synonyms": SYNONYMS})
    scores = score_chair(questions, ["A dog on a bench with a man", "a man"], MBLIP)
    assert values(scores) == {
        "chair_s": 0.5,
        "chair_i": 0.5,
        "object_recall": pytest.approx(2 / 3),
        "objects_said": 2.0,
    }
    assert values(score_chair(questions, ["", ""], MBLIP))["chair_i"] == 0
    empty = several([], [], extra={"synonyms": SYNONYMS})
    assert values(score_chair(empty, ["a dog", ""], MBLIP))["chair_s"] == 0.5
    assert majority(empty) == ""


def test_captions_name_their_words():
    questions = several(["แมวนอน"], ["หมาวิ่ง"], language="th")
    said = ["แมวนอน", "หมาวิ่ง"]
    cut, whole = score_captions(questions, said, MBLIP), score_captions(questions, said, PALIGEMMA)
    assert cut.settings["words"].startswith("PyThaiNLP")
    assert whole.settings["words"] == "none"
    # A Thai caption is one token without segmentation: one n-gram order of four matches.
    assert values(whole)["cider_d"] == pytest.approx(2.5)
    assert values(cut)["cider_d"] > 2.5
    assert next(iter(cut.measures)) == "cider_d"


def test_one_picture_has_no_cider_and_a_note_says_why():
    scores = score_captions(several(["a dog"]), ["a dog"], RAW)
    assert values(scores)["cider_d"] == 0
    assert "makes it 0 on one image" in scores.notes[0]


def test_majority_counts_an_annotators_set_once():
    assert majority(several(["dog", "dog", "dog"], ["cat"], ["cat"])) == "cat"
    assert majority(several(["b"], ["a"])) == "b"


SCORERS = [
    (AnswerScorer("accuracy", any_of), {}),
    (AnswerScorer("vqa_accuracy", leave_one_out), {}),
    (MaxmScorer(), {}),
    (LabelScorer(("yes", "no")), {}),
    (score_names, {}),
    (score_captions, {}),
    (score_choices, {"extra": {"options": ["dog", "cat"]}}),
    (score_chair, {"extra": {"synonyms": SYNONYMS}}),
]


@pytest.mark.parametrize("scorer", [scorer for scorer, _ in SCORERS])
@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(ANYTHING, st.lists(ANYTHING, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_no_text_breaks_a_scorer(scorer, items):
    more = dict(next(more for each, more in SCORERS if each is scorer))
    questions = [ask(*answers, number=number, **more) for number, (_, answers) in enumerate(items)]
    for protocol in (MBLIP, RAW):
        scores = scorer(questions, [said for said, _ in items], protocol)
        for score in scores.measures.values():
            assert score.low - 1e-9 <= score.value <= score.high + 1e-9 or score.n < 5
            assert score.value == score.value
        assert all(len(column) == len(items) for column in scores.items.values())


@pytest.mark.parametrize("credit", [any_of, a_third_each, leave_one_out])
@settings(max_examples=50, deadline=None)
@given(st.lists(ANYTHING, min_size=1, max_size=10), ANYTHING, st.integers(0, 99))
def test_nobody_is_more_right_than_the_commonest_answer(credit, references, said, seed):
    best = max(credit(answer, references) for answer in references)
    assert credit(said, references) <= best <= 1
    assert credit(Counter(references).most_common(1)[0][0], references) == best
    shuffled = random.Random(seed).sample(references, len(references))
    assert credit(said, shuffled) == pytest.approx(credit(said, references))
