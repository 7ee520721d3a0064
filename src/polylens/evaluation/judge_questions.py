"""The questions of LLaVA-QA90 as the judge needs them: official files -> `Question`, and a model's answers to them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polylens.data.rows import json_lines, text_field
from polylens.errors import UserError
from polylens.evaluation.benchmarks.llava_qa90 import language_of

FILES = {
    "questions": "qa90_questions*.jsonl",
    "references": "qa90_gpt4_answer*.jsonl",
    "contexts": "caps_boxes*.jsonl",
}


@dataclass(frozen=True)
class Question:
    """One question of the benchmark, with the reference answer and what the judge is told of the picture."""

    id: str
    category: str
    text: str
    reference: str
    captions: tuple[str, ...]
    boxes: tuple[tuple[str, tuple[float, ...]], ...]


def read_questions(folder: str | Path, language: str | None = None) -> tuple[list[Question], str]:
    """The questions of an official folder, in their order, and their language: the given one, or as identified.

    Raises `UserError` for a file that is missing, not alone, or does not fit the others.
    """
    folder = Path(folder)
    path = {name: _only(folder, pattern) for name, pattern in FILES.items()}
    references = {
        name: text_field(row, "text", where) for name, (where, row) in _by(_id, path["references"]).items()
    }
    contexts = {name: row for name, (_, row) in _by(_image, path["contexts"]).items()}
    questions: dict[str, Question] = {}
    for name, (where, row) in _by(_id, path["questions"]).items():
        image = _image(row)
        if name not in references or image not in contexts:
            raise UserError(f"{where}: there is no reference or no context of question {name} beside it.")
        context = contexts[image]
        questions[name] = Question(
            id=name,
            category=text_field(row, "category", where),
            text=text_field(row, "text", where),
            reference=references[name],
            captions=tuple(map(str, context.get("captions") or ())),
            boxes=tuple((str(box["category"]), tuple(box["bbox"])) for box in context.get("instances") or ()),
        )
    if not questions:
        raise UserError(f"'{path['questions']}' has no questions: get the file again.")
    texts = [question.text for question in questions.values()]
    code = language_of(texts, [] if language is None else [language], path["questions"])
    if language not in (None, code):
        raise UserError(f"'{path['questions']}' is in '{code}', not in '{language}': name its own language.")
    return list(questions.values()), code


def read_answers(path: str | Path, questions: Sequence[Question]) -> list[str]:
    """A model's answers in the questions' order, from predictions.jsonl or rows of `question_id` and `text`.

    Raises `UserError` when some are missing, naming the first five.
    """
    found: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, row in json_lines(path):
        if "fingerprint" in row:
            continue
        text = row.get("prediction", row.get("text"))
        if not isinstance(text, str):
            continue
        name = _id(row)
        # Of predictions.jsonl the last row counts: a question that changed was asked anew.
        if name in found and "asked" not in row:
            raise UserError(
                f"{path}, line {number}: question {name} is answered in line {lines[name]} already."
            )
        found[name], lines[name] = text, number
    missing = [question.id for question in questions if question.id not in found]
    if missing:
        raise UserError(
            f"'{path}' has no answer to {len(missing)} of {len(questions)} questions: "
            f"{', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}."
        )
    return [found[question.id] for question in questions]


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        what = "has no" if not found else f"has {len(found)} files"
        raise UserError(f"'{folder}' {what} '{pattern}': one language of LLaVA-QA90 has one such file.")
    return found[0]


def _by(name_of: Callable[[Mapping[str, Any]], str], path: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """{name: (where, row)} of a file of JSON lines. Raises `UserError` for a name that comes twice."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for number, row in json_lines(path):
        where, name = f"{path}, line {number}", name_of(row)
        if name in found:
            raise UserError(f"{where}: '{name}' comes a second time; the first is {found[name][0]}.")
        found[name] = where, row
    return found


def _image(row: Mapping[str, Any]) -> str:
    return str(row.get("image"))


def _id(row: Mapping[str, Any]) -> str:
    if "question_id" in row:
        return str(row["question_id"])
    return str(row.get("id", "")).rsplit(":", 1)[-1]
