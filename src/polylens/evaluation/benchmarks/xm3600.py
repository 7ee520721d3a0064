"""Crossmodal-3600: 3,600 pictures from all over the world, captioned anew in each of 36 languages."""

from collections.abc import Container, Iterator
from pathlib import Path

from polylens.data.rows import json_lines
from polylens.evaluation.benchmarks.fields import text_of, texts_of
from polylens.evaluation.benchmarks.files import need, the_file, wanted_codes
from polylens.evaluation.benchmarks.interface import Benchmark, Question
from polylens.evaluation.benchmarks.scoring import score_captions


def read(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """`captions.jsonl`: a row per picture, in it a dict with `caption`, a list, per language."""
    path = the_file(folder, ["captions.jsonl"], "XM3600")
    for number, row in json_lines(path):
        where = f"{path}, line {number}"
        key = text_of(need(row, "image/key", path=Path(where))[0], "image/key", where)
        captions = {
            spelling: texts["caption"]
            for spelling, texts in row.items()
            if "/" not in spelling and isinstance(texts, dict) and texts.get("caption")
        }
        for spelling, code in wanted_codes(captions, languages, where).items():
            yield Question(
                id=f"{code}/{key}",
                images=(f"{key}.jpg",),
                language=code,
                answers=texts_of(captions[spelling], f"{spelling}.caption", where),
                where=where,
            )


BENCHMARK = Benchmark(
    name="xm3600",
    title="XM3600",
    task="caption",
    files="captions.jsonl",
    images="KEY.jpg",
    read=read,
    score=score_captions,
)
