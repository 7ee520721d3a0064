"""How well short answers match: exact match (0-1) and chrF (0-100).

chrF is sacrebleu's default: character 1- to 6-grams, beta 2, the best of several references (Popović, 2015).
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from sacrebleu.metrics.chrf import CHRF

from polylens.errors import UserError
from polylens.evaluation.bootstrap import Floats, Score, bootstrap, bootstrap_mean
from polylens.text import normalise

# A reference may be one text or several of which any counts.
References = str | Sequence[str]


def exact_match(prediction: str, references: References) -> float:
    """1.0 if the prediction is, after `normalise`, one of the references, else 0.0."""
    return float(normalise(prediction) in {normalise(text) for text in _several(references)})


def chrf(prediction: str, references: References) -> float:
    """chrF of one sentence, 0-100."""
    return float(_chrf().sentence_score(prediction, _several(references)).score)


def exact_match_score(
    predictions: Sequence[str], references: Sequence[References], *, seed: int = 0
) -> Score:
    """Share of exact matches, 0-1. Raises `UserError` for lists of different or no length."""
    pairs = _pairs(predictions, references)
    return bootstrap_mean([exact_match(*pair) for pair in pairs], seed=seed)


def chrf_score(predictions: Sequence[str], references: Sequence[References], *, seed: int = 0) -> Score:
    """Corpus chrF, 0-100: n-grams are counted over all sentences. Raises as `exact_match_score` does."""
    pairs = _pairs(predictions, references)
    if not pairs:
        return bootstrap([], chrf_from_counts, seed=seed)
    most = max((len(_several(reference)) for _, reference in pairs), default=0)
    padded = [[*_several(reference), *[None] * (most - len(_several(reference)))] for _, reference in pairs]
    # sacrebleu gives no public access to the counts that resampling needs; equality with its score is tested.
    counts_NK = _chrf()._extract_corpus_statistics(list(predictions), list(zip(*padded, strict=True)))
    return bootstrap(counts_NK, chrf_from_counts, seed=seed)


def chrf_from_counts(counts_RK: Floats) -> Floats:
    """chrF 0-100, (R,), of counts (R, 6 x 3): per order, n-grams predicted, referred to, and in both."""
    predicted, referred, matching = np.moveaxis(counts_RK.reshape(len(counts_RK), -1, 3), -1, 0)
    # An order counts only where both sides have n-grams that long.
    counted = (predicted > 0) & (referred > 0)
    orders = np.maximum(counted.sum(1), 1)
    precision = np.where(counted, matching / np.maximum(predicted, 1), 0).sum(1) / orders
    recall = np.where(counted, matching / np.maximum(referred, 1), 0).sum(1) / orders
    weight = CHRF.BETA**2
    either = weight * precision + recall
    return np.where(
        either > 0, 100 * (1 + weight) * precision * recall / np.where(either > 0, either, 1), 0.0
    )


@cache
def _chrf() -> CHRF:
    return CHRF()


def _several(references: References) -> list[str]:
    return [references] if isinstance(references, str) else list(references)


def _pairs(predictions: Sequence[str], references: Sequence[References]) -> list[tuple[str, References]]:
    if len(predictions) != len(references):
        raise UserError(
            f"{len(predictions)} predictions and {len(references)} references: give one for each."
        )
    empty = next((i for i, reference in enumerate(references) if not _several(reference)), None)
    if empty is not None:
        raise UserError(f"Item {empty} has no reference: give at least one, or leave the item out.")
    return list(zip(predictions, references, strict=True))
