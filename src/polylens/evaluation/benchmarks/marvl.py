"""MaRVL and NLVR2: is a statement true of two pictures. MaRVL's are of five cultures, its English twin is NLVR2."""

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from polylens.data.rows import json_lines
from polylens.errors import UserError
from polylens.evaluation.benchmarks.fields import text_of
from polylens.evaluation.benchmarks.files import files_by_language, need, the_file, wanted
from polylens.evaluation.benchmarks.interface import Benchmark, Question
from polylens.evaluation.benchmarks.scoring import LabelScorer
from polylens.languages import code_at

LABELS = ("yes", "no")


def read_marvl(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """`marvl-LANGUAGE.jsonl`: rows of `concept`, `language`, `caption`, `left_img`, `right_img`, `label`, `id`."""
    for code, path in files_by_language(folder, ["marvl-{code}.jsonl"], "MaRVL", languages).items():
        for number, row in json_lines(path):
            where = f"{path}, line {number}"
            concept, caption, left, right, label = need(
                row, "concept", "caption", "left_img", "right_img", "label", path=Path(where)
            )
            yield Question(
                id=f"{code}/{number}",
                images=(_names(code, concept, left), _names(code, concept, right)),
                language=code_at(row.get("language", code), where),
                answers=(LABELS[not yes(label, Path(where))],),
                fields={"statement": caption},
                answer_language="en",
                choices=LABELS,
                extra={"concept": concept},
                where=where,
            )


def read_nlvr2(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """`test1.json`: JSON lines of `sentence`, `label` and `identifier`, which names the pictures."""
    if not wanted("en", languages):
        return
    path = the_file(folder, ["test1.json", "test*.json", "dev.json"], "NLVR2")
    for number, row in json_lines(path):
        where = f"{path}, line {number}"
        sentence, label, identifier = need(row, "sentence", "label", "identifier", path=Path(where))
        stem = text_of(identifier, "identifier", where).rsplit("-", 1)[0]
        yield Question(
            id=f"en/{identifier}",
            images=(f"{stem}-img0.png", f"{stem}-img1.png"),
            language="en",
            answers=(LABELS[not yes(label, Path(where))],),
            fields={"statement": sentence},
            choices=LABELS,
            extra={"file": path.name},
            where=where,
        )


def yes(label: Any, path: Path) -> bool:
    """A label as any of these files writes it. Raises `UserError` for what is none."""
    text = str(label).lower()
    if text not in ("true", "false", "1", "0", "yes", "no"):
        raise UserError(f"'{path}': the label '{label}' is neither true nor false.")
    return text in ("true", "1", "yes")


def _names(code: str, concept: str, name: str) -> tuple[str, ...]:
    inside = f"{concept}/{name}"
    return (inside, f"{code}/images/{inside}", f"{code}/{inside}", f"images/{inside}", name)


MARVL = Benchmark(
    name="marvl",
    title="MaRVL",
    task="reasoning",
    files="marvl-LANGUAGE.jsonl",
    images="MaRVL's, in folders by concept, or by language and concept; names match up to Unicode normalisation",
    read=read_marvl,
    score=LabelScorer(LABELS),
)
NLVR2 = Benchmark(
    name="nlvr2",
    title="NLVR2",
    task="reasoning",
    files="test1.json",
    images="NLVR2 test1",
    read=read_nlvr2,
    score=LabelScorer(LABELS),
)
