"""LLaVA-QA90: 90 questions about 30 COCO pictures, answered freely; `polylens judge` has the answers graded."""

import re
from collections.abc import Container, Iterator
from pathlib import Path

from polylens.data.rows import json_lines
from polylens.evaluation.benchmarks.files import coco_names, need, the_file, wanted
from polylens.evaluation.benchmarks.interface import Benchmark, Question

HAN = re.compile(r"[\u4e00-\u9fff]")


def read(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """`qa90_questions*.jsonl`: `question_id`, `image`, `text`, `category`; reference answers beside them.

    The language is Chinese where a question is written in Chinese characters, else English.
    """
    path = the_file(folder, ["qa90_questions*.jsonl"], "LLaVA-QA90's questions")
    references = the_file(folder, ["qa90_gpt4_answer*.jsonl"], "LLaVA-QA90's reference answers")
    answers = {
        need(row, "question_id", path=references)[0]: need(row, "text", path=references)[0]
        for _, row in json_lines(references)
    }
    for _, row in json_lines(path):
        key, image, text, category = need(row, "question_id", "image", "text", "category", path=path)
        code = "zh" if HAN.search(text) else "en"
        if wanted(code, languages):
            yield Question(
                id=f"{code}/{key}",
                images=((image, *coco_names(Path(image).stem)),),
                language=code,
                answers=(answers[key],),
                fields={"question": text},
                group=category,
                extra={"question_id": key, "category": category},
            )


BENCHMARK = Benchmark(
    name="llava-qa90",
    title="LLaVA-QA90",
    task="question",
    files="qa90_questions*.jsonl and qa90_gpt4_answer*.jsonl",
    images="COCO val2014",
    read=read,
    score=None,
)
