"""Which answers a report shows: the pictures that were answered best, and those answered worst."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from PIL import Image

from polylens.data.sample import Picture, Sample
from polylens.evaluation.measures import Metric
from polylens.evaluation.report import Answer, Example
from polylens.evaluation.runner import Item
from polylens.evaluation.summary import PIVOT

BEST, WORST = "Best answers", "Worst answers"
# Pictures shown of each kind.
NUM_EXAMPLES = 6


def best_and_worst(
    items: Sequence[Item],
    said: Sequence[str],
    scores: Mapping[str, float],
    metric: Metric,
    count: int = NUM_EXAMPLES,
) -> list[Example]:
    """The `count` pictures with the highest, and those with the lowest mean score over their languages.

    `scores` are values of `metric` by the id of an item; pictures without any are not shown. A benchmark of two
    pictures per item shows them side by side.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, item in enumerate(items):
        if item.sample.id in scores and item.sample.images:
            groups.setdefault(tuple(picture.key for picture in item.sample.images), []).append(place)
    # Equal means keep the order of the data, so that the same run shows the same pictures.
    ordered = sorted(
        groups.values(), key=lambda places: fmean(scores[items[at].sample.id] for at in places), reverse=True
    )
    if not metric.higher_is_better:
        ordered.reverse()
    best = ordered[:count]
    worst = ordered[len(best) :][::-1][:count]
    return [
        _example(places, items, said, scores, metric, kind)
        for kind, chosen in ((BEST, best), (WORST, worst))
        for places in chosen
    ]


def _example(
    places: Sequence[int],
    items: Sequence[Item],
    said: Sequence[str],
    scores: Mapping[str, float],
    metric: Metric,
    kind: str,
) -> Example:
    answers: dict[str, Answer] = {}
    for at in places:
        item = items[at]
        # Of several questions about one picture in one language the first stands for all.
        if item.sample.language not in answers:
            answers[item.sample.language] = {
                "said": said[at],
                "wanted": item.references[0] if item.references else "",
                "score": metric.text(scores[item.sample.id]),
            }
    return {
        "picture": _side_by_side(items[places[0]].sample.images),
        "title": _title([items[at] for at in places]),
        "answers": answers,
        "kind": kind,
    }


def _title(items: Sequence[Item]) -> str:
    """The question in words where there is one in English, else the English reference, else the id."""
    english = [item for item in items if item.sample.language == PIVOT and item.references]
    if english and english[0].sample.task != "caption":
        return english[0].sample.turns[-1].prompt.strip()
    return english[0].references[0] if english else _stem(items[0].sample)


def _stem(sample: Sample) -> str:
    return sample.id.rsplit(":", 1)[0]


def _side_by_side(pictures: Sequence[Picture]) -> Image.Image:
    loaded = [picture.load() for picture in pictures]
    if len(loaded) == 1:
        return loaded[0]
    height = min(picture.height for picture in loaded)
    scaled = [
        picture.resize((max(1, round(picture.width * height / picture.height)), height)) for picture in loaded
    ]
    joined = Image.new("RGB", (sum(picture.width for picture in scaled), height), "white")
    left = 0
    for picture in scaled:
        joined.paste(picture, (left, 0))
        left += picture.width
    return joined
