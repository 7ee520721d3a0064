"""CVQA: multiple choice about pictures of 39 pairs of a language and a country, asked in that language."""

import ast
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from polylens.errors import UserError
from polylens.evaluation.benchmarks.answers import lettered
from polylens.evaluation.benchmarks.fields import options_of
from polylens.evaluation.benchmarks.files import need, wanted_code
from polylens.evaluation.benchmarks.interface import Benchmark, Question
from polylens.evaluation.benchmarks.letters import LETTERS
from polylens.evaluation.benchmarks.scoring import score_choices
from polylens.evaluation.benchmarks.tables import pictures_of, read_table


def read(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """Rows of `Question`, `Options`, `Label` (0-3) and `Subset`, such as "('Swahili', 'Kenya')", which is a group."""
    for where, row in read_table(folder, "CVQA"):
        question, options, label, subset = need(
            row, "Question", "Options", "Label", "Subset", path=Path(where)
        )
        options = options_of(options, "Options", where)
        name, country = _subset(subset, where)
        code = wanted_code(name, languages, where)
        if code is None:
            continue
        if not isinstance(label, int) or not 0 <= label < len(options):
            raise UserError(
                f"{where}: the label is {label}, and {len(options)} options go from 0: labels that are withheld"
                " (-1) cannot be scored here."
            )
        key = row.get("ID", where)
        images = pictures_of(row, where)
        yield Question(
            id=f"{code}/{country}/{key}",
            images=images,
            language=code,
            answers=(LETTERS[label],),
            fields={"question": question, "options": lettered(options)},
            choices=tuple(LETTERS[: len(options)]),
            group=f"{name}, {country}",
            extra={"options": list(options)},
            where=where,
        )


def _subset(subset: Any, where: str) -> tuple[str, str]:
    try:
        name, country = ast.literal_eval(subset) if isinstance(subset, str) else subset
    except (ValueError, SyntaxError, TypeError) as error:
        raise UserError(f"{where}: the subset '{subset}' is no pair of language and country.") from error
    return str(name), str(country)


BENCHMARK = Benchmark(
    name="cvqa",
    title="CVQA",
    task="choice",
    files="the data set's *.parquet, or *.jsonl rows",
    images="inside the Parquet files",
    read=read,
    score=score_choices,
)
