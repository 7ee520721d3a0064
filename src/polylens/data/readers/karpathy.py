"""Karpathy's splits of COCO and Flickr30k captions: `dataset_coco.json`, `dataset_flickr30k.json`.

{"images": [{"split": "train", "filename": "1000092795.jpg", "sentences": [{"raw": "Two young guys ..."}, ...]}]}
"""

from collections.abc import Iterator
from pathlib import Path

from polylens.data.readers.jsonl import picture_at
from polylens.data.rows import check_text, list_field, read_json, text_field
from polylens.data.sample import Sample, Turn
from polylens.errors import UserError

SOURCE = "karpathy"


def read_karpathy(path: str | Path, *, images: str | Path, split: str = "train") -> Iterator[Sample]:
    """One plain English caption sample per sentence of the pictures in `split`: train, val, test, or COCO's restval.

    `images` is the folder of the pictures, or the one above COCO's `train2014` and `val2014`. Raises `UserError` for
    a file of another kind and for a split that it does not have.
    """
    content = read_json(path)
    found: dict[str, None] = {}
    for number, row in enumerate(list_field(content, "images", str(path)), start=1):
        where = f"{path}, image {number}"
        if not isinstance(row, dict):
            raise UserError(f"{where} is no JSON object: is it one of Karpathy's files?")
        name, mine = text_field(row, "filename", where), text_field(row, "split", where)
        found[mine] = None
        if mine != split:
            continue
        picture = picture_at(_folder(Path(images), row), name, where)
        for place, sentence in enumerate(list_field(row, "sentences", where)):
            if not isinstance(sentence, dict):
                raise UserError(f"{where}: a sentence is no JSON object.")
            caption = check_text(text_field(sentence, "raw", where), where).strip()
            yield Sample(
                id=f"{name}/{place}",
                images=(picture,),
                turns=(Turn("", caption),),
                language="en",
                task="caption",
                source=SOURCE,
                extra={"image": name},
            )
    if split not in found:
        raise UserError(f"'{path}' has no split '{split}': choose from {', '.join(found)}.")


def _folder(images: Path, row: dict[str, object]) -> Path:
    inside = row.get("filepath")
    return images / inside if isinstance(inside, str) and (images / inside).is_dir() else images
