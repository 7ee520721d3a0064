"""Scores during training: short answers to the held-out samples, by language."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from polylens.data.captions import with_references
from polylens.data.sample import Sample
from polylens.errors import UserError
from polylens.evaluation.generation import Generation
from polylens.evaluation.names import chrf_score, exact_match_score
from polylens.evaluation.predictor import LocalPredictor
from polylens.evaluation.runner import Item, answer, by_language
from polylens.models.vlm import VisionLanguageModel

SCORERS = {"exact_match": exact_match_score, "chrf": chrf_score}


def check_metrics(names: Iterable[str]) -> None:
    """Raises `UserError` for a metric that training does not know; `loss` is always there."""
    wrong = next((name for name in names if name not in SCORERS and name.split("/")[0] != "loss"), None)
    if wrong is not None:
        known = ", ".join(["loss", *SCORERS])
        raise UserError(f"There is no validation metric '{wrong}': choose from {known}.")


def validation_scores(
    model: VisionLanguageModel, samples: Sequence[Sample], metrics: Sequence[str]
) -> dict[str, float]:
    """{"chrf": mean over languages, "chrf/de": one language, ...} of greedy answers to `samples`.

    Answers to the same question about the same pictures count as references of one item. Raises `UserError`
    for an unknown metric.
    """
    check_metrics(metrics)
    items = [Item(sample, tuple(references)) for sample, references in with_references(samples)]
    said = answer(LocalPredictor(model), items, Generation())
    scores: dict[str, float] = {}
    for metric in metrics:
        by_code = {
            code: SCORERS[metric]([said[at] for at in places], [items[at].references for at in places]).value
            for code, places in by_language(items).items()
        }
        scores |= {metric: fmean(by_code.values())}
        scores |= {f"{metric}/{code}": value for code, value in by_code.items()}
    return scores
