"""xFlickr&CO (IGLUE): 1,000 pictures of Flickr30k and 1,000 of COCO, one caption each, written in seven languages."""

from collections.abc import Container, Iterator
from pathlib import Path

from polylens.data.rows import json_lines
from polylens.evaluation.benchmarks.files import files_by_language, need
from polylens.evaluation.benchmarks.interface import Benchmark, Question
from polylens.evaluation.benchmarks.scoring import score_captions


def read(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """`LANGUAGE/test.jsonl`: rows of `sentences`, `id` and `img_path`. Some captions are empty, and stay."""
    for code, path in files_by_language(folder, ["{code}/test.jsonl"], "xFlickrCO", languages).items():
        for _, row in json_lines(path):
            sentences, key, image = need(row, "sentences", "id", "img_path", path=path)
            split = image.split("_")[1] if image.startswith("COCO_") else ""
            images = (image, f"{split}/{image}") if split else (image,)
            yield Question(id=f"{code}/{key}", images=(images,), language=code, answers=tuple(sentences))


BENCHMARK = Benchmark(
    name="xflickrco",
    title="xFlickrCO",
    task="caption",
    files="LANGUAGE/test.jsonl",
    images="Flickr30k and COCO val2014 (two --images folders, or one)",
    read=read,
    score=score_captions,
)
