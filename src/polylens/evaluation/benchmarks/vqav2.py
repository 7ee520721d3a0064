"""VQAv2: questions in English about COCO pictures, with the answers of ten people each."""

from collections.abc import Container, Iterator
from pathlib import Path

from polylens.data.rows import Ids, list_field, read_json
from polylens.errors import UserError
from polylens.evaluation.benchmarks.fields import key_of, texts_of
from polylens.evaluation.benchmarks.files import coco_names, need, the_file, wanted
from polylens.evaluation.benchmarks.interface import Benchmark, Question
from polylens.evaluation.benchmarks.scoring import AnswerScorer, leave_one_out


def read(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """The questions file and the annotations file of one split, joined by `question_id`."""
    if not wanted("en", languages):
        return
    questions = the_file(folder, ["*OpenEnded*questions.json", "*questions*.json"], "VQAv2's questions")
    annotations = the_file(folder, ["*annotations*.json"], "VQAv2's annotations")
    answers: dict[str, tuple[str, ...]] = {}
    ids = Ids()
    for number, row in enumerate(list_field(read_json(annotations), "annotations", str(annotations)), 1):
        where = f"{annotations}, annotation {number}"
        key, given = need(row, "question_id", "answers", path=Path(where))
        key = key_of(key, "question_id", where)
        ids.add(key, where)
        answers[key] = texts_of([need(one, "answer", path=Path(where))[0] for one in given], "answers", where)
    content = read_json(questions)
    split = content.get("data_subtype", "val2014") if isinstance(content, dict) else ""
    for number, row in enumerate(list_field(content, "questions", str(questions)), start=1):
        where = f"{questions}, question {number}"
        key, image, question = need(row, "question_id", "image_id", "question", path=Path(where))
        key = key_of(key, "question_id", where)
        if key not in answers:
            raise UserError(f"'{annotations}' has no answers to question {key}: are both files of one split?")
        yield Question(
            id=f"en/{key}",
            images=(coco_names(image, split),),
            language="en",
            answers=answers[key],
            fields={"question": question},
            where=where,
        )


BENCHMARK = Benchmark(
    name="vqav2",
    title="VQAv2",
    task="vqa",
    files="v2_OpenEnded_mscoco_val2014_questions.json and v2_mscoco_val2014_annotations.json",
    images="COCO val2014",
    read=read,
    score=AnswerScorer("vqa_accuracy", leave_one_out),
)
