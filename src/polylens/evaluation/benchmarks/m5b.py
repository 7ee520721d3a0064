"""M5B-VGR and M5B-VLOD (Schneider and Sitaram, 2024): pictures of homes all over the world, in 12 languages.

VGR: is a statement true of two pictures, as in MaRVL. VLOD: which of five pictures does not fit a statement.
"""

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from polylens.errors import UserError
from polylens.evaluation.benchmarks.files import need, wanted_code
from polylens.evaluation.benchmarks.interface import Benchmark, Question
from polylens.evaluation.benchmarks.letters import LETTERS
from polylens.evaluation.benchmarks.marvl import LABELS, yes
from polylens.evaluation.benchmarks.scoring import LabelScorer, score_choices
from polylens.evaluation.benchmarks.tables import pictures_of, read_table

OUTLIERS = 5


def read_vgr(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """Rows of `sample_id`, `language`, `hypothesis`, `label` or `label_str`, and two pictures."""
    for where, key, code, statement, label, images in _rows(folder, languages, "M5B-VGR", 2):
        yield Question(
            id=f"{code}/{key}",
            images=images,
            language=code,
            answers=(LABELS[not yes(label, Path(where))],),
            fields={"statement": statement},
            answer_language="en",
            choices=LABELS,
            where=where,
        )


def read_vlod(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """As VGR, with five pictures; the label is the place of the outlier, from 0, or its letter."""
    for where, key, code, statement, label, images in _rows(folder, languages, "M5B-VLOD", OUTLIERS):
        yield Question(
            id=f"{code}/{key}",
            images=images,
            language=code,
            answers=(_letter(label, where),),
            fields={"statement": statement},
            answer_language="en",
            choices=tuple(LETTERS[:OUTLIERS]),
            where=where,
            extra={"options": [f"image {letter}" for letter in LETTERS[:OUTLIERS]]},
        )


def _rows(
    folder: Path, languages: Container[str] | None, what: str, count: int
) -> Iterator[tuple[str, Any, str, str, Any, tuple[Any, ...]]]:
    for where, row in read_table(folder, what):
        key, spelling, statement = need(row, "sample_id", "language", "hypothesis", path=Path(where))
        code = wanted_code(spelling, languages, where)
        if code is None:
            continue
        label = row["label_str"] if row.get("label_str") is not None else row.get("label")
        if label is None:
            raise UserError(f"{where}: neither 'label' nor 'label_str' is there: is it the official file?")
        images = pictures_of(row, where)
        if len(images) != count:
            raise UserError(f"{where}: {len(images)} pictures, and {what} has {count} in each row.")
        yield where, key, code, statement, label, images


def _letter(label: Any, where: str) -> str:
    text = str(label).strip().upper()
    if text in LETTERS[:OUTLIERS]:
        return text
    if text.isdigit() and int(text) < OUTLIERS:
        return LETTERS[int(text)]
    raise UserError(f"{where}: the label '{label}' names none of {OUTLIERS} pictures.")


VGR = Benchmark(
    name="m5b-vgr",
    title="M5B-VGR",
    task="reasoning",
    files="the data set's *.parquet, or *.jsonl rows",
    images="inside the Parquet files",
    read=read_vgr,
    score=LabelScorer(LABELS),
)
VLOD = Benchmark(
    name="m5b-vlod",
    title="M5B-VLOD",
    task="outlier",
    files="the data set's *.parquet, or *.jsonl rows",
    images="inside the Parquet files",
    read=read_vlod,
    score=score_choices,
)
