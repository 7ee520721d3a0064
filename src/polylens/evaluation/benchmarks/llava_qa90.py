"""LLaVA-QA90: 90 questions about 30 COCO pictures, answered freely; `polylens judge` has the answers graded."""

from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from polylens.data.rows import Ids, json_lines
from polylens.errors import UserError
from polylens.evaluation.benchmarks.fields import key_of, text_of
from polylens.evaluation.benchmarks.files import coco_names, need, the_file, wanted
from polylens.evaluation.benchmarks.interface import Benchmark, Question
from polylens.language_id import SURE, identify, knows, same


def read(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """`qa90_questions*.jsonl`: `question_id`, `image`, `text`, `category`; reference answers beside them.

    A folder is in one language: see `language_of`.
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
    rows = []
    for number, row in json_lines(path):
        where = f"{path}, line {number}"
        key, image, text, category = need(row, "question_id", "image", "text", "category", path=Path(where))
        if key_of(key, "question_id", where) not in answers:
            raise UserError(f"{where}: '{references}' has no answer to question {key}: get both files again.")
        rows.append((where, key, text_of(image, "image", where), text_of(text, "text", where), category))
    asked = list(languages) if isinstance(languages, Sequence) else []
    code = language_of([text for _, _, _, text, _ in rows], asked, path)
    if wanted(code, languages):
        for where, key, image, text, category in rows:
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
