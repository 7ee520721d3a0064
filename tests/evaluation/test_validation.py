"""Scores during training: by metric and language, on a tiny model."""

import pytest
from tests.models.tiny_models import NoisePicture, tiny_vlm

from polylens.data.sample import Sample, Turn
from polylens.errors import UserError
from polylens.evaluation.validation import SCORERS, check_metrics, validation_scores


@pytest.mark.parametrize(
    ("metric", "said", "references", "value"),
    [
        ("accuracy", ["A dog.", "two"], [["dog"], ["2"]], 1.0),
        ("accuracy", ["yes it is", "maybe"], [["yes"], ["maybe"]], 0.5),
        ("exact_match", ["A dog", "no"], [["a dog"], ["yes"]], 0.5),
    ],
)
def test_metrics(metric: str, said: list[str], references: list[list[str]], value: float) -> None:
    assert SCORERS[metric](said, references, "en") == value


def test_cider_weighs_captions_against_all_references() -> None:
    references = [["a brown dog runs", "a dog"], ["two cats sleep"], ["a red car"]]
    right = SCORERS["cider_d"](["a brown dog runs", "two cats sleep", "a red car"], references, "en")
    wrong = SCORERS["cider_d"](["two cats sleep", "a red car", "a brown dog runs"], references, "en")
    assert right > 5 * wrong


def test_scores_are_means_over_languages() -> None:
    samples = [
        Sample(f"{code}{n}", (NoisePicture(n),), (Turn("What?", "dog"),), code, "vqa", "t")
        for code in ("en", "de")
        for n in range(2)
    ]
    scores = validation_scores(tiny_vlm(), samples, ["accuracy", "cider_d"])
    assert set(scores) == {f"{m}{c}" for m in ("accuracy", "cider_d") for c in ("", "/en", "/de")}
    assert scores["accuracy"] == (scores["accuracy/en"] + scores["accuracy/de"]) / 2


def test_english_answers_count_by_the_language_of_the_question() -> None:
    samples = [
        Sample(f"{code}{n}", (NoisePicture(n),), (Turn(f"{code}?", "dog"),), "en", "vqa", "t", extra)
        for code, extra in (("en", {}), ("de", {"question_language": "de"}))
        for n in range(2)
    ]
    assert set(validation_scores(tiny_vlm(), samples, ["accuracy"])) == {
        "accuracy",
        "accuracy/en",
        "accuracy/de",
    }


def test_unknown_metrics_are_named() -> None:
    check_metrics(["loss", "loss/de", "accuracy", "cider_d"])
    with pytest.raises(
        UserError, match="no validation metric 'cider': choose from loss, exact_match, chrf, accuracy"
    ):
        check_metrics(["cider"])
