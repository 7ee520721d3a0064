"""Questions by what they have in common."""

from collections.abc import Callable, Sequence

from polylens.evaluation.benchmarks.interface import Question


def by(questions: Sequence[Question], key: Callable[[Question], str]) -> dict[str, list[int]]:
    """{value of `key`: places of its questions}, in order of first appearance."""
    places: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        places.setdefault(key(question), []).append(place)
    return places
