"""GQA and xGQA for training: questions about pictures, with short English answers. https://cs.stanford.edu/people/dorarad/gqa

train_balanced_questions.json  {"02930152": {"imageId": "2354786", "question": ..., "answer": ...}, ...}
de/dev.json                    the same, the questions translated (xGQA)
train.json                     [{"img_id": ..., "sent": ..., "label": {"yes": 1.0}, "question_id": ...}] (LXMERT, IGLUE)
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polylens.data.readers.jsonl import picture_at
from polylens.data.rows import Ids, json_array, read_json, text_field
from polylens.data.sample import Sample, Turn
from polylens.errors import UserError
from polylens.languages import language as find_language

SOURCE = "gqa"


def read_gqa(path: str | Path, *, images: str | Path, language: str = "en") -> Iterator[Sample]:
    """One plain VQA sample per question; answers are English, whatever `language` the questions are in.

    `images` is GQA's folder of pictures. A file of LXMERT's kind is read a piece at a time, the official one whole.
    Raises `UserError` for a file of another kind, and for a question with several answers.
    """
    code = find_language(language).code
    path = Path(path)
    seen = Ids()
    for name, image, question, answer, where in _rows(path):
        seen.add(name, where)
        yield Sample(
            id=name if code == "en" else f"{code}/{name}",
            images=(picture_at(Path(images), f"{image}.jpg", where),),
            turns=(Turn(question, answer),),
            language="en",
            task="vqa",
            source=SOURCE,
            extra={"image": image} | ({} if code == "en" else {"question_language": code}),
        )


def _rows(path: Path) -> Iterator[tuple[str, str, str, str, str]]:
    """(id, picture, question, answer, where) of either kind of file."""
    if _is_array(path):
        for number, row in json_array(path):
            where = f"{path}, row {number}"
            yield (
                str(row.get("question_id", number)),
                text_field(row, "img_id", where),
                text_field(row, "sent", where),
                _one_label(row, where),
                where,
            )
        return
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"'{path}' holds no questions by id: is it GQA's file of questions?")
    for name, row in content.items():
        where = f"{path}, question {name}"
        if not isinstance(row, dict):
            raise UserError(f"{where} is no JSON object: is it GQA's file of questions?")
        yield (
            name,
            text_field(row, "imageId", where),
            text_field(row, "question", where),
            text_field(row, "answer", where),
            where,
        )


def _is_array(path: Path) -> bool:
    if not path.is_file():
        raise UserError(f"There is no file '{path}': check the path.")
    with open(path, "rb") as file:
        return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _one_label(row: dict[str, Any], where: str) -> str:
    label = row.get("label")
    if not isinstance(label, dict) or len(label) != 1:
        raise UserError(
            f"{where}: 'label' is not one answer, as in {{\"yes\": 1.0}}: is it the training split?"
        )
    return text_field({"label": next(iter(label))}, "label", where)
