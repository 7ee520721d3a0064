"""Picto's own suite: its five tasks on drawings that training never showed, with the questions as Picto puts them."""

import hashlib
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path

import numpy as np

from polylens.evaluation.benchmarks.interface import Benchmark, Question, Scores
from polylens.evaluation.benchmarks.protocols import Protocol
from polylens.evaluation.bootstrap import Floats, bootstrap_all
from polylens.evaluation.names import exact_match
from polylens.picto.measures import SUITE
from polylens.picto.tasks import TASKS, samples
from polylens.picto.world import LANGUAGES
from polylens.text import normalise

MEAN = "picto"


def read(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """The test drawings of all scored concepts, concept by concept; `folder` is not looked at.

    Unicode lists like things together, so the concepts stand in an order by chance, the same in every run.
    """
    for code in LANGUAGES:
        if languages is not None and code not in languages:
            continue
        rows = samples(languages=[code], tasks=TASKS, split="test")
        for sample in sorted(rows, key=lambda sample: _place(sample.extra["concept"])):
            turn = sample.turns[-1]
            yield Question(
                id=sample.id,
                images=sample.images,
                language=code,
                answers=(turn.answer,),
                task="own",
                group=sample.task,
                prompt=turn.prompt,
            )


def score(questions: Sequence[Question], said: Sequence[str], protocol: Protocol) -> Scores:
    """Exact match by task (keywords: F1 of the set), and the mean over tasks."""
    tasks = [task for task in TASKS if any(question.group == task for question in questions)]
    values = [
        (keywords_f1 if question.group == "keywords" else exact_match)(text, question.answers[0])
        for question, text in zip(questions, said, strict=True)
    ]
    statistics = np.zeros((len(questions), 2 * len(tasks)))
    for row, (question, value) in enumerate(zip(questions, values, strict=True)):
        place = tasks.index(question.group)
        statistics[row, place], statistics[row, len(tasks) + place] = value, 1

    def means(sums_RK: Floats) -> Floats:
        values_RT, counts_RT = np.split(sums_RK, 2, axis=1)
        return np.where(counts_RT > 0, values_RT / np.maximum(counts_RT, 1), 0.0)

    def of(place: int) -> Callable[[Floats], Floats]:
        return lambda sums: means(sums)[:, place]

    measures: dict[str, Callable[[Floats], Floats]] = {MEAN: lambda sums: means(sums).mean(1)}
    measures |= {f"{MEAN}_{task}": of(place) for place, task in enumerate(tasks)}
    return Scores(bootstrap_all(statistics, measures), {MEAN: values})


def keywords_f1(said: str, wanted: str) -> float:
    """F1 of two sets of keywords, each text a list with commas."""
    mine, theirs = _keywords(said), _keywords(wanted)
    common = len(mine & theirs)
    return 2 * common / (len(mine) + len(theirs)) if common else 0.0


def _place(concept: str) -> tuple[bytes, str]:
    return hashlib.sha256(concept.encode()).digest(), concept


def _keywords(text: str) -> set[str]:
    return {normalise(word) for word in text.split(",") if word.strip()}


BENCHMARK = Benchmark(
    name="picto",
    title="Picto",
    task="own",
    files="none: packaged",
    images="none: packaged",
    read=read,
    score=score,
    packaged=True,
    measures=SUITE,
)
