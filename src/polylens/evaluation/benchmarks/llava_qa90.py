"""LLaVA-QA90: 90 questions about 30 COCO pictures, answered freely; `polylens judge` has the answers graded."""

import re
from collections.abc import Container, Iterator
from pathlib import Path

from polylens.data.rows import Ids, json_lines
from polylens.errors import UserError
from polylens.evaluation.benchmarks.fields import key_of, text_of
from polylens.evaluation.benchmarks.files import coco_names, need, the_file, wanted
from polylens.evaluation.benchmarks.interface import Benchmark, Question

HAN = re.compile(r"[\u4e00-\u9fff]")


def read(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """`qa90_questions*.jsonl`: `question_id`, `image`, `text`, `category`; reference answers beside them.

    The language is Chinese where a question is written in Chinese characters, else English.
    """
    path = the_file(folder, ["qa90_questions*.jsonl"], "LLaVA-QA90's questions")
    references = the_file(folder, ["qa90_gpt4_answer*.jsonl"], "LLaVA-QA90's reference answers")
    answers: dict[str, str] = {}
    ids = Ids()
    for number, row in json_lines(references):
        where = f"{references}, line {number}"
        key, text = need(row, "question_id", "text", path=Path(where))
        key = key_of(key, "question_id", where)
        ids.add(key, where)
        answers[key] = text_of(text, "text", where)
    for number, row in json_lines(path):
        where = f"{path}, line {number}"
        key, image, text, category = need(row, "question_id", "image", "text", "category", path=Path(where))
        if key_of(key, "question_id", where) not in answers:
            raise UserError(f"{where}: '{references}' has no answer to question {key}: get both files again.")
        text, image = text_of(text, "text", where), text_of(image, "image", where)
        code = "zh" if HAN.search(text) else "en"
        if wanted(code, languages):
            yield Question(
                id=f"{code}/{key}",
                images=((image, *coco_names(Path(image).stem)),),
                language=code,
                answers=(answers[str(key)],),
                fields={"question": text},
                group=category,
                extra={"question_id": key, "category": category},
                where=where,
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
