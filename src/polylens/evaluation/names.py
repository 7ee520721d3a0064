"""How well short answers match: exact match in two forms (0-1) and chrF (0-100).

chrF is sacrebleu's default: character 1- to 6-grams, beta 2, the best of several references (Popović, 2015).
"""

import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np
from sacrebleu.metrics.chrf import CHRF

from polylens.errors import UserError
from polylens.evaluation.bootstrap import Floats, Score, bootstrap, bootstrap_mean
from polylens.text import normalise

# Words that are nothing but articles, or next to nothing else, by language.
ARTICLES = {
    code: frozenset(words.split())
    for code, words in {
        "ca": "el la els les un una uns unes l'",
        "da": "en et den det de",
        "de": "der die das dem den des ein eine einen einem einer eines",
        "el": "ο η το οι τα τον την του της ένας μια μία ένα",
        "en": "a an the",
        "es": "el la los las un una unos unas",
        "fr": "le la les l' un une des",
        "gl": "o a os as un unha uns unhas",
        "hu": "a az egy",
        "it": "il lo la l' i gli le un uno una un'",
        "nb": "en ei et den det de",
        "nl": "de het een",
        "no": "en ei et den det de",
        "pt": "o a os as um uma uns umas",
        "ro": "un o niște",
        "sv": "en ett den det de",
    }.items()
}

# A reference may be one text or several of which any counts.
References = str | Sequence[str]


def exact_match(prediction: str, references: References) -> float:
    """1.0 if the prediction is, after `normalise`, one of the references, else 0.0."""
    return float(normalise(prediction) in {normalise(text) for text in _several(references)})


def chrf(prediction: str, references: References) -> float:
    """chrF of one sentence, 0-100."""
    return float(_chrf().sentence_score(prediction, _several(references)).score)


def loose_match(prediction: str, references: References, code: str) -> float:
    """1.0 if the prediction is one of the references, articles and punctuation at the end aside, else 0.0."""
    return float(_loose(prediction, code) in {_loose(text, code) for text in _several(references)})


def _loose(text: str, code: str) -> str:
    """`normalise`d, without final punctuation, and without the articles of language `code`; never emptied."""
    plain = normalise(text).replace("’", "'")
    end = len(plain)
    while end and (unicodedata.category(plain[end - 1])[0] == "P" or plain[end - 1] == " "):
        end -= 1
    articles = ARTICLES.get(code, frozenset())
    words = []
    for word in plain[:end].split():
        elided, apostrophe, rest = word.partition("'")
        if rest and elided + apostrophe in articles:
            word = rest
        if word not in articles:
            words.append(word)
    return " ".join(words) or plain


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
