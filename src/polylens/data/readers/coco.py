"""COCO captions, `captions_train2014.json` and its like: https://cocodataset.org, "Caption Evaluation"."""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from polylens.data.readers.jsonl import picture_at
from polylens.data.rows import Ids, list_field, read_json, text_field
from polylens.data.sample import Sample, Turn
from polylens.data.unreadable import Unreadable
from polylens.errors import UserError
from polylens.languages import language as find_language

SOURCE = "coco"


def read_coco(
    path: str | Path,
    *,
    images: str | Path,
    language: str = "en",
    unreadable: Unreadable | None = None,
) -> Iterator[Sample]:
    """One plain caption sample per annotation, those of an image together, in the order of the file's images.

    `images` is the folder of the pictures, `language` that of the captions: others translated COCO. Raises
    `UserError` for a file of another kind, an id that is there twice, and a caption of no image.
    """
    code = find_language(language).code
    content = read_json(path)
    captions: dict[int, list[tuple[int, str]]] = defaultdict(list)
    seen, skip = Ids(), unreadable or Unreadable()
    for number, row in enumerate(list_field(content, "annotations", str(path)), start=1):
        where = f"{path}, annotation {number}"
        if not isinstance(row, dict) or not isinstance(row.get("id"), int) or "image_id" not in row:
            raise UserError(f"{where} has no whole-number 'id' or no 'image_id': is it a captions file?")
        seen.add(str(row["id"]), where)
        caption = skip.made(partial(text_field, row, "caption", where))
        if caption is not None:
            captions[row["image_id"]].append((row["id"], caption))
    for number, row in enumerate(list_field(content, "images", str(path)), start=1):
        where = f"{path}, image {number}"
        if not isinstance(row, dict) or "id" not in row:
            raise UserError(f"{where} has no 'id': is it a captions file?")
        name = text_field(row, "file_name", where)
        mine = captions.pop(row["id"], [])
        picture = picture_at(Path(images), name, where) if mine else None
        for annotation, caption in mine:
            assert picture is not None
            yield Sample(
                id=str(annotation),
                images=(picture,),
                turns=(Turn("", caption),),
                language=code,
                task="caption",
                source=SOURCE,
                extra={"image": str(row["id"])},
            )
    if captions:
        raise UserError(f"'{path}' has captions of image {next(iter(captions))}, but not that image.")
