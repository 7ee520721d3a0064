"""NLVR2, `train.json`, `dev.json` and their translations: is a statement true of two pictures.

{"identifier": "train-10171-0-0", "sentence": "An image shows ...", "label": "True", "directory": 29}

The last number of an identifier counts statements; the rest names the pictures, `...-img0.png` and `...-img1.png`.
https://github.com/lil-lab/nlvr
"""

from collections.abc import Iterator
from pathlib import Path

from polylens.data.readers.jsonl import picture_at
from polylens.data.rows import Ids, json_lines, text_field
from polylens.data.sample import Picture, Sample, Turn
from polylens.errors import UserError
from polylens.files import find_file
from polylens.languages import language as find_language

SOURCE = "nlvr2"
LABELS = {"true": "yes", "false": "no"}


def read_nlvr2(path: str | Path, *, images: str | Path, language: str = "en") -> Iterator[Sample]:
    """One plain sample per statement, with two pictures: the statement, and yes or no, in English.

    `images` holds the pictures themselves, or the numbered folders of the training split. `language` is that of the
    statements. Raises `UserError` for a file of another kind, an id that comes twice, and an unknown label.
    """
    code = find_language(language).code
    seen = Ids()
    for number, row in json_lines(path):
        where = f"{path}, line {number}"
        name = text_field(row, "identifier", where)
        seen.add(name, where)
        label = LABELS.get(str(row.get("label")).lower())
        if label is None:
            raise UserError(f"{where}: the label '{row.get('label')}' is neither True nor False.")
        stem, mark, _ = name.rpartition("-")
        if not mark:
            raise UserError(f"{where}: the identifier '{name}' names no pair of pictures: is it NLVR2?")
        pair = tuple(
            _picture(Path(images), row.get("directory"), f"{stem}-img{i}.png", where) for i in (0, 1)
        )
        yield Sample(
            id=f"{code}/{name}",
            images=pair,
            turns=(Turn(text_field(row, "sentence", where), label),),
            language="en",
            task="reasoning",
            source=SOURCE,
            extra={"image": stem, "question_language": code},
        )


def _picture(folder: Path, directory: object, name: str, where: str) -> Picture:
    """The picture in its numbered folder where there is one, else in the folder itself."""
    inside = f"{directory}/{name}" if directory is not None else name
    return picture_at(
        folder, inside if find_file(folder, inside) or not find_file(folder, name) else name, where
    )
