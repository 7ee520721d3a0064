"""LLaVA-QA90: 90 questions about 30 COCO pictures, answered freely; `polylens judge` has the answers graded."""

from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from polylens.data.rows import json_lines
from polylens.errors import UserError
from polylens.evaluation.benchmarks.files import coco_names, need, the_file, wanted
from polylens.evaluation.benchmarks.interface import Benchmark, Question
from polylens.language_id import SURE, identify, knows, same


def read(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """`qa90_questions*.jsonl`: `question_id`, `image`, `text`, `category`; reference answers beside them.

    A folder is in one language: see `language_of`.
    """
    path = the_file(folder, ["qa90_questions*.jsonl"], "LLaVA-QA90's questions")
    references = the_file(folder, ["qa90_gpt4_answer*.jsonl"], "LLaVA-QA90's reference answers")
    answers = {
        need(row, "question_id", path=references)[0]: need(row, "text", path=references)[0]
        for _, row in json_lines(references)
    }
    rows = [need(row, "question_id", "image", "text", "category", path=path) for _, row in json_lines(path)]
    asked = list(languages) if isinstance(languages, Sequence) else []
    code = language_of([text for _, _, text, _ in rows], asked, path)
    if wanted(code, languages):
        for key, image, text, category in rows:
            yield Question(
                id=f"{code}/{key}",
                images=((image, *coco_names(Path(image).stem)),),
                language=code,
                answers=(answers[key],),
                fields={"question": text},
                group=category,
                extra={"question_id": key, "category": category},
            )


def language_of(texts: Sequence[str], asked: Sequence[str], path: Path) -> str:
    """The language that all of these questions are written in.

    It is the only one asked for, unless the texts are surely in another; without one asked for it is identified.
    Raises `UserError` where nothing is asked for and no language is sure.
    """
    found, confidence = identify("\n".join(texts))
    sure = found is not None and confidence >= SURE
    if len(asked) == 1:
        [code] = asked
        contradicted = sure and found is not None and knows(code) and not same(found, code)
        return found if contradicted and found is not None else code
    if found is None or not sure:
        raise UserError(f"The language of the questions in '{path}' is not sure: name it with --lang.")
    return found


BENCHMARK = Benchmark(
    name="llava-qa90",
    title="LLaVA-QA90",
    task="question",
    files="qa90_questions*.jsonl and qa90_gpt4_answer*.jsonl",
    images="COCO val2014",
    read=read,
    score=None,
)
