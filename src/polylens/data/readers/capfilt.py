"""BLIP's captions of web images, `ccs_synthetic_filtered_large.json`: one array of {"caption": ..., "url": ...}.

It is the large one of BLIP's filtered files, with synthetic captions, which mBLIP drew from. `polylens download`
fetches the pictures into a folder, where a URL's picture is found by `picture_path`.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from polylens.data.images import FilePicture
from polylens.data.rows import json_array, text_field
from polylens.data.sample import Sample, Turn
from polylens.data.unreadable import Unreadable
from polylens.data.urls import picture_path

SOURCE = "capfilt"


def read_capfilt(
    path: str | Path, *, images: str | Path, unreadable: Unreadable | None = None
) -> Iterator[Sample]:
    """One plain English caption sample per row; `images` is the folder that `polylens download` filled.

    The same URL may come with several captions. Dead links have no picture: read with `unreadable: skip`.
    Raises `UserError` for what is not such an array.
    """
    skip = unreadable or Unreadable()
    for number, row in json_array(path):
        where = f"{path}, row {number}"
        url = text_field(row, "url", where)
        caption = skip.made(partial(text_field, row, "caption", where))
        if caption is None:
            continue
        yield Sample(
            id=str(number),
            images=(FilePicture(picture_path(Path(images), url)),),
            turns=(Turn("", caption),),
            language="en",
            task="caption",
            source=SOURCE,
            extra={"image": url},
        )
