"""Pictures for the report: those answered best and those answered worst, with what was said in each language."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from polylens.data.sample import Picture
from polylens.evaluation.benchmarks.interface import Question, Scores
from polylens.evaluation.report import Answer, Example

NUM_EXAMPLES = 12
PIVOT = "en"


def examples(
    questions: Sequence[Question],
    pictures: Sequence[tuple[Picture, ...]],
    said: Sequence[str],
    scored: Mapping[str, Scores],
) -> list[Example]:
    """Half from the best, half from the worst by the main measure's mean over a picture's questions; where there is
    no value per question, evenly spread ones. A question about several pictures is shown with its first.
    """
    values = _values(questions, scored)
    by_picture: dict[str, list[int]] = {}
    for place, mine in enumerate(pictures):
        if mine:
            by_picture.setdefault(mine[0].key, []).append(place)
    ranked = list(by_picture.values())
    if values is not None:
        ranked.sort(key=lambda places: -fmean(values[at] for at in places))
        half = NUM_EXAMPLES // 2
        chosen = ranked if len(ranked) <= NUM_EXAMPLES else ranked[:half] + ranked[-half:]
    else:
        chosen = ranked[:: max(1, len(ranked) // NUM_EXAMPLES)][:NUM_EXAMPLES]
    return [_example(places, questions, pictures, said, values) for places in chosen]


def _values(questions: Sequence[Question], scored: Mapping[str, Scores]) -> list[float] | None:
    """The main measure's value of each question; None where it has none per question."""
    columns = {}
    for code, scores in scored.items():
        column = scores.items.get(next(iter(scores.measures)))
        if column is None:
            return None
        columns[code] = iter(column)
    return [next(columns[question.language]) for question in questions] if columns else None


def _example(
    places: Sequence[int],
    questions: Sequence[Question],
    pictures: Sequence[tuple[Picture, ...]],
    said: Sequence[str],
    values: Sequence[float] | None,
) -> Example:
    answers: dict[str, Answer] = {}
    for at in places:
        question = questions[at]
        # One answer per language is shown, that to its first question.
        if question.language not in answers:
            answer: Answer = {"said": said[at], "wanted": question.answers[0]}
            if question.choices and values is not None:
                answer["right"] = values[at] > 0
            answers[question.language] = answer
    first = questions[places[0]]
    english = [questions[at].answers[0] for at in places if questions[at].language == PIVOT]
    title = next(iter(first.fields.values()), "") or (english[0] if english else first.id)
    return {"picture": pictures[places[0]][0].load(), "title": title, "answers": answers}
