"""Scores during training: short answers to the held-out samples, by language."""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from polylens.data.captions import with_references
from polylens.data.sample import Sample
from polylens.errors import UserError
from polylens.evaluation.benchmarks.answers import clean_vqa
from polylens.evaluation.caption_metrics import caption_scores
from polylens.evaluation.generation import Generation
from polylens.evaluation.names import chrf_score, exact_match_score
from polylens.evaluation.predictor import LocalPredictor
from polylens.evaluation.runner import Item, answer
from polylens.models.vlm import VisionLanguageModel

Scorer = Callable[[Sequence[str], Sequence[Sequence[str]], str], float]


def _accuracy(said: Sequence[str], references: Sequence[Sequence[str]], code: str) -> float:
    """Of short answers and labels, both sides cleaned as the VQA challenge does."""
    right = [
        clean_vqa(text) in {clean_vqa(one) for one in mine}
        for text, mine in zip(said, references, strict=True)
    ]
    return fmean(right)


# (answers, references of each, language) -> a number that rises.
SCORERS: dict[str, Scorer] = {
    "exact_match": lambda said, references, code: exact_match_score(said, references).value,
    "chrf": lambda said, references, code: chrf_score(said, references).value,
    "accuracy": _accuracy,
    "cider_d": lambda said, references, code: caption_scores(said, references, code).cider.value,
}


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

    Where answers are English whatever the question is in, the language is the question's. Answers to the same
    question about the same pictures count as references of one item. Raises `UserError` for an unknown metric, and
    for CIDEr-D in a language whose words are cut by a package that is not installed.
    """
    check_metrics(metrics)
    items = [Item(sample, tuple(references)) for sample, references in with_references(samples)]
    said = answer(LocalPredictor(model), items, Generation())
    scores: dict[str, float] = {}
    for metric in metrics:
        by_code = {
            code: SCORERS[metric]([said[at] for at in places], [items[at].references for at in places], code)
            for code, places in _by_language(items).items()
        }
        scores |= {metric: fmean(by_code.values())}
        scores |= {f"{metric}/{code}": value for code, value in by_code.items()}
    return scores


def _by_language(items: Sequence[Item]) -> dict[str, list[int]]:
    """The places of the items of each language: that of the question, where the source says it, else the answer's."""
    found: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        code = str(item.sample.extra.get("question_language", item.sample.language))
        found.setdefault(code, []).append(place)
    return found
