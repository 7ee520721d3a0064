"""XVNLI (IGLUE): does the picture, in a premise's place, entail the hypothesis; 1,150 scored rows per language."""

from collections.abc import Container, Iterator
from pathlib import Path

from polylens.data.rows import json_lines
from polylens.errors import UserError
from polylens.evaluation.benchmarks.fields import key_of
from polylens.evaluation.benchmarks.files import files_by_language, need
from polylens.evaluation.benchmarks.interface import Benchmark, Question
from polylens.evaluation.benchmarks.scoring import LabelScorer

LABELS = {"entailment": "yes", "contradiction": "no", "neutral": "maybe"}
# The annotators did not agree: such rows are not scored.
NO_LABEL = "-"


def read(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """`LANGUAGE/test.jsonl`: rows of `gold_label`, `sentence2` (the hypothesis), `Flikr30kID` (sic) and `pairID`."""
    for code, path in files_by_language(folder, ["{code}/test.jsonl"], "XVNLI", languages).items():
        for number, row in json_lines(path):
            where = f"{path}, line {number}"
            label, hypothesis, image, pair = need(
                row, "gold_label", "sentence2", "Flikr30kID", "pairID", path=Path(where)
            )
            if label == NO_LABEL:
                continue
            if label not in LABELS:
                raise UserError(f"{where}: the label '{label}' is none of {', '.join(LABELS)}.")
            yield Question(
                id=f"{code}/{number}/{pair}",
                images=(f"{key_of(image, 'Flikr30kID', where)}.jpg",),
                language=code,
                answers=(LABELS[label],),
                fields={"hypothesis": hypothesis},
                answer_language="en",
                choices=tuple(LABELS.values()),
                where=where,
            )


BENCHMARK = Benchmark(
    name="xvnli",
    title="XVNLI",
    task="entailment",
    files="LANGUAGE/test.jsonl",
    images="Flickr30k",
    read=read,
    score=LabelScorer(tuple(LABELS.values())),
)
