"""Pivot ratios: how much of its English score a model keeps in another language, on the same pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from polylens.evaluation.benchmarks.grouping import by
from polylens.evaluation.benchmarks.interface import Question, Scores, picture_name
from polylens.evaluation.bootstrap import Floats, bootstrap
from polylens.text import normalise

PIVOT = "en"


def with_ratios(
    scored: Mapping[str, Scores], questions: Sequence[Question], ratios: Mapping[str, str]
) -> dict[str, Scores]:
    """The scores with, for each measure of `ratios`, its share of English over the pictures that both languages have.

    A picture with an answer that is right in both languages tells nothing and is left out. There is no ratio to an
    English score of 0.
    """
    places = by(questions, lambda question: question.language)
    if PIVOT not in places or PIVOT not in scored:
        return dict(scored)
    english = {_pictures(questions[at]): row for row, at in enumerate(places[PIVOT])}
    answers = [{normalise(text) for text in questions[at].answers} for at in places[PIVOT]]
    found = dict(scored)
    for code, scores in scored.items():
        pairs = [
            (row, english[key])
            for row, at in enumerate(places[code])
            if (key := _pictures(questions[at])) in english
            and not answers[english[key]] & {normalise(text) for text in questions[at].answers}
        ]
        if code == PIVOT or not pairs:
            continue
        measures = dict(scores.measures)
        for measure, name in ratios.items():
            if measure not in scores.items or measure not in scored[PIVOT].items:
                continue
            mine, theirs = scores.items[measure], scored[PIVOT].items[measure]
            values = np.array([(mine[row] or 0.0, theirs[other] or 0.0) for row, other in pairs])
            if values[:, 1].sum() > 0:
                measures[name] = bootstrap(values, _ratio)
        found[code] = replace(scores, measures=measures, beside={**scores.beside, "n_ratio": len(pairs)})
    return found


def ratio_means(rows: Mapping[str, Mapping[str, Any]], ratios: Mapping[str, str]) -> dict[str, Any]:
    """Means of the ratios over languages, and of exact match the lowest, as reports show them."""
    found: dict[str, Any] = {}
    for name in ratios.values():
        values = {code: row[name] for code, row in rows.items() if name in row}
        if values:
            found[f"mean_{name}"] = fmean(values.values())
        if values and name == "pivot_ratio":
            worst = min(values, key=values.__getitem__)
            found |= {"worst_pivot_ratio": values[worst], "worst_language": worst}
    return found


def _pictures(question: Question) -> tuple[str, ...]:
    return tuple(map(picture_name, question.images))


def _ratio(sums_R2: Floats) -> Floats:
    """A resample without an English hit has no ratio: it counts as 0 where nothing else was hit, else as 1 or more."""
    return np.where(sums_R2[:, 1] > 0, sums_R2[:, 0] / np.where(sums_R2[:, 1] > 0, sums_R2[:, 1], 1), 0.0)
