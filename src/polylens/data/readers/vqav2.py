"""VQAv2 as published: a file of questions and one of annotations. https://visualqa.org/download.html

v2_OpenEnded_mscoco_train2014_questions.json    v2_mscoco_train2014_annotations.json
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polylens.data.readers.jsonl import picture_at
from polylens.data.rows import Ids, list_field, read_json, text_field
from polylens.data.sample import Sample, Turn
from polylens.errors import UserError

SOURCE = "vqav2"


def read_vqav2(
    path: str | Path,
    *,
    images: str | Path,
    annotations: str | Path | None = None,
) -> Iterator[Sample]:
    """One plain English VQA sample per question, answered by the most frequent answer of the ten people.

    `path` is the file of questions; that of `annotations` lies beside it under its official name, or is given.
    `images` is COCO's folder (`train2014`). Raises `UserError` for files of another kind, and when questions and
    answers do not belong together.
    """
    path = Path(path)
    answers_path = Path(annotations) if annotations else _beside(path)
    content = read_json(path)
    subset = text_field(content, "data_subtype", str(path)) if isinstance(content, dict) else ""
    answers = _answers(answers_path)
    seen = Ids()
    for number, row in enumerate(list_field(content, "questions", str(path)), start=1):
        where = f"{path}, question {number}"
        name, image = _numbers(row, where)
        seen.add(str(name), where)
        if name not in answers:
            raise UserError(
                f"{where}: '{answers_path}' has no answer to question {name}: are both of one set?"
            )
        best, everybody = answers[name]
        picture = picture_at(Path(images), f"COCO_{subset}_{image:012d}.jpg", where)
        yield Sample(
            id=str(name),
            images=(picture,),
            turns=(Turn(text_field(row, "question", where), best),),
            language="en",
            task="vqa",
            source=SOURCE,
            extra={"image": str(image), "answers": everybody},
        )


def _beside(path: Path) -> Path:
    name = path.name.replace("OpenEnded_", "").replace("_questions.json", "_annotations.json")
    if name == path.name:
        raise UserError(
            f"'{path}' is not called like VQAv2's questions (v2_OpenEnded_mscoco_..._questions.json): "
            "name the file of 'annotations' as well."
        )
    return path.with_name(name)


def _answers(path: Path) -> dict[int, tuple[str, list[str]]]:
    """{question: (the most frequent answer, all of them)}."""
    answers = {}
    for number, row in enumerate(list_field(read_json(path), "annotations", str(path)), start=1):
        where = f"{path}, annotation {number}"
        name, _ = _numbers(row, where)
        everybody = [
            text_field(one, "answer", where) for one in row.get("answers", []) if isinstance(one, dict)
        ]
        answers[name] = (text_field(row, "multiple_choice_answer", where), everybody)
    return answers


def _numbers(row: Any, where: str) -> tuple[int, int]:
    """(question_id, image_id)."""
    if isinstance(row, dict):
        name, image = row.get("question_id"), row.get("image_id")
        if isinstance(name, int) and isinstance(image, int):
            return name, image
    raise UserError(f"{where} has no whole-number 'question_id' and 'image_id': is it VQAv2?")
