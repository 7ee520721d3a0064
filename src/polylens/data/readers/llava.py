"""LLaVA-Instruct, `conversation_58k.json`, `detail_23k.json` and their like: conversations about one image.

{"id": "000000215677", "image": "000000215677.jpg", "conversations": [{"from": "human", "value": ...},
 {"from": "gpt", "value": ...}, ...]}
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from polylens.data.readers.jsonl import picture_at
from polylens.data.rows import check_text, json_array, list_field, text_field
from polylens.data.sample import Sample, Turn
from polylens.data.unreadable import Unreadable
from polylens.errors import UserError
from polylens.languages import language as find_language

SOURCE = "llava"
MARK = "<image>"
PLACE = re.compile(r"(\s*)<image>(\s*)")


def read_llava(
    path: str | Path, *, images: str | Path, language: str = "en", unreadable: Unreadable | None = None
) -> Iterator[Sample]:
    """One plain instruction sample per conversation, all of its turns.

    `images` is COCO's folder (`train2017`), `language` that of the conversations. Rows share names (one image, several
    conversations), so a sample's id is the row's number. A row names its `image`, or several in a list, and the
    first question has as many marks `<image>`, which are taken out; in the assistant's turns they are text. Raises
    `UserError` for a file of another kind, a conversation that does not go from person to assistant and back, marks
    that are not as many as the images, and a mark after the first question.
    """
    code, skip = find_language(language).code, unreadable or Unreadable()
    for number, row in json_array(path):
        sample = skip.made(partial(_sample, row, number, Path(images), code, f"{path}, row {number}"))
        if sample is not None:
            yield sample


def _sample(row: dict[str, Any], number: int, folder: Path, code: str, where: str) -> Sample:
    names = _images(row, where)
    return Sample(
        id=str(number),
        images=tuple(picture_at(folder, name, where) for name in names),
        turns=dialogue(list_field(row, "conversations", where), len(names), where),
        language=code,
        task="instruction",
        source=SOURCE,
        extra={"image": names[0]} if names else {},
    )


def dialogue(said: Sequence[Any], num_images: int, where: str, marked: bool = True) -> tuple[Turn, ...]:
    """The turns of a conversation [{"from": "human", "value": ...}, ...], without the marks of its images.

    The first question has as many marks as there are images; where they need not be `marked`, none will do. Raises
    `UserError` for other marks, and for a conversation that does not go from person to assistant and back.
    """
    told = [_said(one, where) for one in said]
    if not told or [speaker for speaker, _ in told] != ["human", "gpt"] * (len(told) // 2):
        raise UserError(f"{where}: its turns do not go 'human', 'gpt', 'human', 'gpt' to the end.")
    questions, answers = [text for _, text in told[::2]], [text for _, text in told[1::2]]
    if marked or any(MARK in question for question in questions):
        _check_marks(questions, num_images, where)
    questions = [check_text(_without_marks(text), f"{where}: a turn") for text in questions]
    return tuple(Turn(prompt, answer) for prompt, answer in zip(questions, answers, strict=True))


def _images(row: dict[str, Any], where: str) -> list[str]:
    """The names of a row's images: none without `image`, which may be null."""
    given = row.get("image")
    if given is None:
        return []
    names = given if isinstance(given, list) else [given]
    return [text_field({"image": name}, "image", where) for name in names]


def _check_marks(questions: Sequence[str], num_images: int, where: str) -> None:
    """Pictures stand before the first question, so that is where their marks must be."""
    marks = [question.count(MARK) for question in questions]
    if sum(marks) != num_images:
        raise UserError(
            f"{where}: its questions have {sum(marks)} marks {MARK}, and it names {num_images} images: make them equal."
        )
    later = next((number for number, count in enumerate(marks[1:], start=2) if count), None)
    if later:
        raise UserError(
            f"{where}: question {later} has a mark {MARK}, and pictures come before the first question."
        )


def _without_marks(question: str) -> str:
    """The question; white space beside a mark stays between words, a line feed before a space."""

    def joined(match: re.Match[str]) -> str:
        around = match[1] + match[2]
        at_end = match.start() == 0 or match.end() == len(question)
        return "" if at_end else "\n" if "\n" in around else " " if around else ""

    return PLACE.sub(joined, question)


def _said(one: Any, where: str) -> tuple[str, str]:
    if not isinstance(one, dict):
        raise UserError(f"{where}: a turn is no JSON object.")
    return text_field(one, "from", where), text_field(one, "value", where)
