"""Choice among N captions: which caption of its language does the model find likeliest for a picture?

own caption + captions of N - 1 other pictures -> likelihoods -> is the likeliest one the picture's own?

The same other pictures stand beside a picture in every language that captions them, so that languages can be compared.
It says what is understood where no wording is ever hit exactly.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from polylens.data.sample import stored_at
from polylens.errors import UserError
from polylens.evaluation.benchmarks.grouping import by
from polylens.evaluation.benchmarks.interface import Question, Scores, picture_name
from polylens.evaluation.bootstrap import bootstrap_mean
from polylens.evaluation.measures import METRICS, Metric
from polylens.evaluation.runner import Item
from polylens.text import normalise

MEASURE = "choice_accuracy"
FOLDER = "choices"


def metric(count: int) -> Metric:
    """How the measure is shown for N candidates."""
    meaning = f"pictures whose own caption is the likeliest of {count} captions in that language"
    return replace(METRICS[MEASURE], meaning=meaning, chance=1 / count)


def choice_items(questions: Sequence[Question], items: Sequence[Item], count: int) -> list[Item]:
    """The items with `count` captions to choose from, the picture's own first.

    Raises `UserError` for a language that has fewer different captions.
    """
    found = list(items)
    for code, places in by(questions, lambda question: question.language).items():
        for at in places:
            own = {normalise(text) for text in questions[at].answers}
            candidates = [questions[at].answers[0]]
            for other in _in_order(questions, places, at, count):
                text = questions[other].answers[0]
                if normalise(text) not in own:
                    own.add(normalise(text))
                    candidates.append(text)
                if len(candidates) == count:
                    break
            if len(candidates) < count:
                raise UserError(
                    f"{questions[at].place}: {len(candidates)} different captions in {code} are too few to choose "
                    f"among {count}: lower --choices, or leave the language out."
                )
            found[at] = replace(items[at], choices=tuple(candidates))
    return found


def with_choices(
    scored: dict[str, Scores], questions: Sequence[Question], picked: Sequence[str]
) -> dict[str, Scores]:
    """The scores with the share of pictures whose own caption was picked."""
    found = dict(scored)
    for code, places in by(questions, lambda question: question.language).items():
        right = [
            float(normalise(picked[at]) in {normalise(text) for text in questions[at].answers})
            for at in places
        ]
        scores = scored[code]
        found[code] = replace(
            scores,
            measures={**scores.measures, MEASURE: bootstrap_mean(right)},
            items={**scores.items, MEASURE: right},
        )
    return found


def _in_order(questions: Sequence[Question], places: Sequence[int], at: int, count: int) -> list[int]:
    """The other questions of the language in an order that the picture alone decides; few of them if few are needed."""
    image = questions[at].images[0]
    # By its name alone: the same wherever the folder lies.
    picture = Path(picture_name(image) if isinstance(image, str | tuple) else stored_at(image)).name
    others = [place for place in places if place != at]
    few = min(len(others), 4 * count)
    drawn = random.Random(f"choices/{picture}").sample(others, few)
    return drawn if few == len(others) else drawn + others
