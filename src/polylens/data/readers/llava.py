"""LLaVA-Instruct, `conversation_58k.json`, `detail_23k.json` and their like: conversations about one image.

{"id": "000000215677", "image": "000000215677.jpg", "conversations": [{"from": "human", "value": ...},
 {"from": "gpt", "value": ...}, ...]}
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polylens.data.readers.jsonl import picture_at
from polylens.data.rows import check_text, json_array, list_field, text_field
from polylens.data.sample import Sample, Turn
from polylens.errors import UserError
from polylens.languages import language as find_language

SOURCE = "llava"
MARK = re.compile(r"\s*<image>\s*")


def read_llava(path: str | Path, *, images: str | Path, language: str = "en") -> Iterator[Sample]:
    """One plain instruction sample per conversation, all of its turns; the place of the image is taken out.

    `images` is COCO's folder (`train2017`), `language` that of the conversations. Rows share names (one image, several
    conversations), so a sample's id is the row's number. Raises `UserError` for a file of another kind and for a
    conversation that does not go from person to assistant and back.
    """
    code = find_language(language).code
    for number, row in json_array(path):
        where = f"{path}, row {number}"
        said = [said_turn(one, where) for one in list_field(row, "conversations", where)]
        if not said or [speaker for speaker, _ in said] != ["human", "gpt"] * (len(said) // 2):
            raise UserError(f"{where}: its turns do not go 'human', 'gpt', 'human', 'gpt' to the end.")
        texts = [text for _, text in said]
        name = text_field(row, "image", where) if "image" in row else None
        yield Sample(
            id=str(number),
            images=(picture_at(Path(images), name, where),) if name else (),
            turns=tuple(Turn(prompt, answer) for prompt, answer in zip(texts[::2], texts[1::2], strict=True)),
            language=code,
            task="instruction",
            source=SOURCE,
            extra={"image": name} if name else {},
        )


def said_turn(one: Any, where: str) -> tuple[str, str]:
    """(speaker, text) of a turn, the mark of the image taken out. Raises `UserError` for another object."""
    if not isinstance(one, dict):
        raise UserError(f"{where}: a turn is no JSON object.")
    text = MARK.sub("", text_field(one, "value", where))
    return text_field(one, "from", where), check_text(text, f"{where}: a turn")
