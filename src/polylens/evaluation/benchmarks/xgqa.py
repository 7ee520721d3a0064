"""xGQA: GQA's questions translated by people into seven languages; the answers stay English."""

from collections.abc import Container, Iterator
from pathlib import Path

from polylens.data.rows import read_json
from polylens.errors import UserError
from polylens.evaluation.benchmarks.fields import key_of, object_of, text_of
from polylens.evaluation.benchmarks.files import files_by_language, need
from polylens.evaluation.benchmarks.interface import Benchmark, Question
from polylens.evaluation.benchmarks.scoring import AnswerScorer, any_of

FILES = (
    "zero_shot/testdev_balanced_questions_{code}.json",
    "testdev_balanced_questions_{code}.json",
    "{code}/test.json",
    "{code}/dev.json",
)


def read(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """A dict per language: question id -> `imageId`, `question`, `answer`; test files go before `dev.json`."""
    for code, path in files_by_language(folder, FILES, "xGQA", languages).items():
        rows = read_json(path)
        if not isinstance(rows, dict):
            raise UserError(f"'{path}' is no JSON object of questions by id: is it the official file?")
        for key, row in rows.items():
            where = f"{path}, question {key}"
            image, question, answer = need(
                object_of(row, "it", where), "imageId", "question", "answer", path=Path(where)
            )
            yield Question(
                id=f"{code}/{path.stem}/{key}",
                images=(f"{key_of(image, 'imageId', where)}.jpg",),
                language=code,
                answers=(text_of(answer, "answer", where),),
                fields={"question": question},
                answer_language="en",
                extra={"file": path.relative_to(folder).as_posix()},
                where=where,
            )


BENCHMARK = Benchmark(
    name="xgqa",
    title="xGQA",
    task="vqa",
    files="zero_shot/testdev_balanced_questions_LANGUAGE.json, or LANGUAGE/test.json, or LANGUAGE/dev.json",
    images="GQA",
    read=read,
    score=AnswerScorer("accuracy", any_of),
)
