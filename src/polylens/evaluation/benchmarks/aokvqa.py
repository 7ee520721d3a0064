"""A-OKVQA: questions in English that need knowledge of the world; answered directly, or one of four options."""

from collections.abc import Container, Iterator
from functools import partial
from pathlib import Path

from polylens.data.rows import json_array
from polylens.errors import UserError
from polylens.evaluation.benchmarks.answers import lettered
from polylens.evaluation.benchmarks.fields import options_of, place_in, texts_of
from polylens.evaluation.benchmarks.files import coco_names, need, the_file, wanted
from polylens.evaluation.benchmarks.interface import Benchmark, Question
from polylens.evaluation.benchmarks.letters import LETTERS
from polylens.evaluation.benchmarks.scoring import AnswerScorer, a_third_each, score_choices

FILES = ("aokvqa_v1p0_val.json", "aokvqa*.json")


def read(direct: bool, folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """A JSON list of `question`, `choices`, `correct_choice_idx`, `direct_answers`, `image_id`, `split`.

    Questions marked `difficult_direct_answer` are not scored for direct answers, as in the official evaluation.
    """
    if not wanted("en", languages):
        return
    path = the_file(folder, FILES, "A-OKVQA")
    for number, row in json_array(path):
        where = f"{path}, row {number}"
        key, image, question, choices = need(
            row, "question_id", "image_id", "question", "choices", path=Path(where)
        )
        choices = list(options_of(choices, "choices", where))
        images = (coco_names(image, f"{row.get('split', 'val')}2014"),)
        fields = {"question": question}
        if direct:
            if not row.get("difficult_direct_answer"):
                given = need(row, "direct_answers", path=Path(where))[0]
                yield Question(
                    id=f"en/{key}",
                    images=images,
                    language="en",
                    answers=texts_of(given, "direct_answers", where),
                    fields=fields,
                    extra={"file": path.name},
                    where=where,
                )
            continue
        right = row.get("correct_choice_idx")
        if right is None:
            raise UserError(f"'{path}' does not say which choices are right: take the file of val.")
        yield Question(
            id=f"en/{key}",
            images=images,
            language="en",
            answers=(LETTERS[place_in(right, len(choices), "correct_choice_idx", where)],),
            fields=fields | {"options": lettered(choices)},
            choices=tuple(LETTERS[: len(choices)]),
            extra={"options": choices, "file": path.name},
            where=where,
        )


DIRECT = Benchmark(
    name="aokvqa",
    title="A-OKVQA, direct answers",
    task="vqa",
    files="aokvqa_v1p0_val.json",
    images="COCO (2014 or 2017 names)",
    read=partial(read, True),
    score=AnswerScorer("vqa_accuracy", a_third_each),
)
CHOICES = Benchmark(
    name="aokvqa-choices",
    title="A-OKVQA, multiple choice",
    task="choice",
    files="aokvqa_v1p0_val.json",
    images="COCO (2014 or 2017 names)",
    read=partial(read, False),
    score=score_choices,
)
