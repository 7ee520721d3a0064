"""A-OKVQA, `aokvqa_v1p0_train.json`: questions that need knowledge, with reasons. https://github.com/allenai/aokvqa"""

from collections.abc import Iterator
from pathlib import Path

from polylens.data.readers.jsonl import picture_at
from polylens.data.rows import Ids, check_text, json_array, list_field, text_field
from polylens.data.sample import Sample, Turn
from polylens.errors import UserError

SOURCE = "aokvqa"


def read_aokvqa(path: str | Path, *, images: str | Path) -> Iterator[Sample]:
    """One plain English VQA sample per question, answered by the right choice; reasons and choices in `extra`.

    `images` is COCO's folder of the same split (`train2017`). Raises `UserError` for a file of another kind, and
    for the test split, which has no answers.
    """
    seen = Ids()
    for number, row in json_array(path):
        where = f"{path}, row {number}"
        name = text_field(row, "question_id", where)
        seen.add(name, where)
        choices = list_field(row, "choices", where)
        right, image = row.get("correct_choice_idx"), row.get("image_id")
        if not isinstance(right, int) or not 0 <= right < len(choices):
            raise UserError(f"{where}: 'correct_choice_idx' names no choice: the test split has no answers.")
        if not isinstance(image, int):
            raise UserError(f"{where} has no whole-number 'image_id': is it A-OKVQA?")
        texts = {
            key: [check_text(str(text), f"{where}: '{key}'") for text in list_field(row, key, where)]
            for key in ("choices", "direct_answers", "rationales")
        }
        yield Sample(
            id=name,
            images=(picture_at(Path(images), f"{image:012d}.jpg", where),),
            turns=(Turn(text_field(row, "question", where), texts["choices"][right]),),
            language="en",
            task="vqa",
            source=SOURCE,
            extra={
                "image": str(image),
                "answers": texts["direct_answers"],
                "choices": texts["choices"],
                "rationales": texts["rationales"],
            },
        )
