"""What an image was drawn with, written into its PNG, so that it can be drawn again from itself."""

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin
from pydantic import BaseModel, ConfigDict, ValidationError

from polylens import __version__
from polylens.errors import UserError
from polylens.files import write_atomic

KEY = "polylens"


class Record(BaseModel):
    """One image: `seeds` are those of its batch, and it is number `index` among them; the batch matters, since sums
    of floating-point numbers come out a little different in batches of another size. `read_as` is the prompt in
    English, where the painter put it into that.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    model_sha256: str | None
    prompt: str
    read_as: str | None = None
    negative: str
    sampler: str
    steps: int
    guidance: float
    size: tuple[int, int]
    precision: str
    seeds: list[int]
    index: int
    polylens: str = __version__
    torch: str = ""
    diffusers: str = ""

    @property
    def seed(self) -> int:
        """The image's own seed."""
        return self.seeds[self.index]


def write_png(image: Image.Image, record: Record, path: Path) -> None:
    """Write the image with its record in an iTXt chunk."""
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt(KEY, record.model_dump_json())
    content = io.BytesIO()
    image.save(content, "PNG", pnginfo=notes)
    write_atomic(path, content.getvalue())


def read_record(path: str | Path) -> Record:
    """The record in a PNG. Raises `UserError` when there is none."""
    try:
        with Image.open(path) as image:
            image.load()
            found: Any = image.info.get(KEY)
    except OSError as error:
        raise UserError(f"The image '{path}' cannot be read: {error}.") from error
    if found is None:
        raise UserError(f"'{path}' does not say how it was drawn: give a PNG that 'polylens paint' wrote.")
    try:
        return Record.model_validate(json.loads(found))
    except (ValueError, ValidationError) as error:
        raise UserError(f"What '{path}' says of how it was drawn is damaged: {error}") from error
