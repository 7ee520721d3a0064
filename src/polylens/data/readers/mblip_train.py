"""mBLIP's own training files, as released (Gregor/mblip-train): prompts and answers in 96 languages, ready to train on.

[{"context": "Caption the image in German.", "label": "Ein Hund.", "image_id": "COCO_train2014_000000000009.jpg"}, ...]

The prompt is in its words already, so nothing is to be built out of these samples, and nothing to be translated.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from polylens.data.images import FilePicture
from polylens.data.rows import json_array, json_lines, text_field
from polylens.data.sample import Picture, Sample, Turn
from polylens.errors import UserError
from polylens.files import find_file
from polylens.language_id import identify

SOURCE = "mblip-train"
# mBLIP validates on the first rows of a file and trains on the rest.
HELD_OUT = 500
SPLITS = ("train", "val")


def read_mblip_train(
    path: str | Path, *, images: str | Path | Sequence[str | Path], split: str | None = None
) -> Iterator[Sample]:
    """One ready sample per row. `images` is a folder or several, of which the first that has a picture gives it.

    `split` "train" leaves out the first 500 rows, "val" keeps only those. The rows do not say the language of an
    answer: it is identified, and English where no letter tells. Raises `UserError` for a file of another kind.
    """
    if split is not None and split not in SPLITS:
        raise UserError(f"mBLIP's files have no split '{split}': choose from {', '.join(SPLITS)}.")
    roots = [Path(root) for root in ([images] if isinstance(images, str | Path) else images)]
    if not roots:
        raise UserError("'images' names no folder: give the folders of the pictures.")
    for number, row in _rows(Path(path)):
        if split is not None and (number <= HELD_OUT) != (split == "val"):
            continue
        where = f"{path}, row {number}"
        answer, name = text_field(row, "label", where), text_field(row, "image_id", where)
        yield Sample(
            id=str(number),
            images=(_picture(roots, name),),
            turns=(Turn(text_field(row, "context", where), answer),),
            language=identify(answer)[0] or "en",
            task="mblip",
            source=SOURCE,
            extra={"image": name},
        )


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = path.name.removesuffix(".gz").endswith(".jsonl")
    return json_lines(path) if lines else json_array(path)


def _picture(roots: Sequence[Path], name: str) -> Picture:
    """Without a file anywhere, the place where the first folder would hold it: reading the picture says so."""
    found = (find_file(root, name) for root in roots)
    return FilePicture(next((path for path in found if path is not None), roots[0] / name))
