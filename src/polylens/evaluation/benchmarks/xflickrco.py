"""xFlickr&CO (IGLUE): 1,000 pictures of Flickr30k and 1,000 of COCO, one caption each, written in seven languages."""

from collections.abc import Container, Iterator
from pathlib import Path

from polylens.data.rows import json_lines
from polylens.evaluation.benchmarks.fields import key_of, text_of, texts_of
from polylens.evaluation.benchmarks.files import files_by_language, need
from polylens.evaluation.benchmarks.interface import Benchmark, Question
from polylens.evaluation.benchmarks.scoring import score_captions


def read(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """`LANGUAGE/test.jsonl`: rows of `sentences`, `id` and `img_path`. Some captions are empty, and stay."""
    for code, path in files_by_language(folder, ["{code}/test.jsonl"], "xFlickrCO", languages).items():
        for number, row in json_lines(path):
            where = f"{path}, line {number}"
            sentences, key, image = need(row, "sentences", "id", "img_path", path=Path(where))
            image = text_of(image, "img_path", where)
            split = image.split("_")[1] if image.startswith("COCO_") else ""
            images = (image, f"{split}/{image}") if split else (image,)
            yield Question(
                id=f"{code}/{key_of(key, 'id', where)}",
                images=(images,),
                language=code,
                answers=texts_of(sentences, "sentences", where),
                where=where,
            )


BENCHMARK = Benchmark(
    name="xflickrco",
    title="xFlickrCO",
    task="caption",
    files="LANGUAGE/test.jsonl",
    images="Flickr30k and COCO val2014 (two --images folders, or one)",
    read=read,
    score=score_captions,
)
