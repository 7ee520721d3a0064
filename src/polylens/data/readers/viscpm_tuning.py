"""What VisCPM-Chat was tuned on beside LLaVA: UniMM-Chat (arXiv 2310.00653) and M3IT (arXiv 2306.04387), as published.

    UniMM-Chat      *.parquet: image {bytes}, conversation (JSON: [{"from": "human", "value": ...}, ...]), idx,
                    image_path, origin_dataset
    M3IT            *.jsonl: {"instruction": ..., "inputs": ..., "outputs": ..., "image_base64_str": [...]}; or the same
                    fields in *.parquet, with `image` {bytes} or `image_base64_str`

Pictures stay in their files until they are needed.
"""

import base64
import binascii
import codecs
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from polylens.data.containers import pyarrow_and_parquet
from polylens.data.images import decode_image
from polylens.data.readers.llava import dialogue
from polylens.data.rows import check_text, decode, parse_json
from polylens.data.sample import Picture, Sample, Turn
from polylens.data.unreadable import Unreadable
from polylens.errors import UserError
from polylens.languages import language as find_language

PICTURES = ("image", "image_base64_str")


@dataclass(frozen=True)
class CellPicture:
    """A picture in a column of a Parquet file."""

    path: Path
    group: int
    row: int
    column: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.path}, row group {self.group}, row {self.row}, picture {self.number}"

    @property
    def key(self) -> str:
        status = self.path.stat()
        return f"{self.name}, {status.st_size}, {status.st_mtime_ns}"

    def read(self) -> bytes:
        """Its bytes. Raises `UserError` for a file that is damaged."""
        arrow, parquet = pyarrow_and_parquet()
        try:
            table = parquet.ParquetFile(self.path).read_row_group(
                self.group, [self.column], use_threads=False
            )
        except (OSError, arrow.ArrowException) as error:
            raise UserError(f"'{self.path}' cannot be read: {error}.") from error
        return _picture_bytes(table.column(self.column)[self.row].as_py(), self.number, self.name)

    def load(self) -> Image.Image:
        return decode_image(self.read(), self.name)


@dataclass(frozen=True)
class LinePicture:
    """A picture in base64 in a line of a JSON Lines file, which begins at byte `place`."""

    path: Path
    place: int
    number: int

    @property
    def name(self) -> str:
        return f"{self.path}, byte {self.place}, picture {self.number}"

    @property
    def key(self) -> str:
        status = self.path.stat()
        return f"{self.name}, {status.st_size}, {status.st_mtime_ns}"

    def read(self) -> bytes:
        """Its bytes. Raises `UserError` for a file that has changed."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self.place)
                cell = json.loads(file.readline())["image_base64_str"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"'{self.path}' has changed or cannot be read: {error!r}.") from error
        return _picture_bytes(cell, self.number, self.name)

    def load(self) -> Image.Image:
        return decode_image(self.read(), self.name)


def read_unimm_chat(
    path: str | Path, *, language: str = "en", unreadable: Unreadable | None = None
) -> Iterator[Sample]:
    """One instruction sample for each dialogue of the Parquet files in `path`, or of that one.

    Its first question may have the mark `<image>`, which is taken out. Raises `UserError` for another kind of file,
    for a dialogue that does not go from person to assistant and back, and for other marks.
    """
    code, skip = find_language(language).code, unreadable or Unreadable()
    for file in _files(Path(path), ".parquet"):
        for where, row, picture in _parquet_rows(file, ("conversation",)):
            turns = skip.made(partial(_dialogue, row["conversation"], len(picture), where))
            if turns is not None:
                yield _sample("unimm-chat", file, where, picture, turns, code)


def _dialogue(text: Any, num_pictures: int, where: str) -> tuple[Turn, ...]:
    if not isinstance(text, str):
        raise UserError(f"{where}: its conversation is no text.")
    said = parse_json(text, f"{where}, its conversation")
    if not isinstance(said, list):
        raise UserError(f"{where}: its conversation is no list of turns.")
    return dialogue(said, num_pictures, where, marked=False)


def read_m3it(
    path: str | Path, *, language: str = "en", unreadable: Unreadable | None = None
) -> Iterator[Sample]:
    """One instruction sample for each row of the files in `path`, or of that one; the instruction comes before the
    input, on a line of its own.

    Raises `UserError` for another kind of file, and for a row without instruction, output or picture.
    """
    code, skip = find_language(language).code, unreadable or Unreadable()
    for file in _files(Path(path), ".parquet", ".jsonl"):
        rows = (
            _json_rows(file) if file.suffix == ".jsonl" else _parquet_rows(file, ("instruction", "outputs"))
        )
        for where, row, pictures in rows:
            turns = skip.made(partial(_instructed, row, where))
            if turns is not None:
                yield _sample("m3it", file, where, pictures, turns, code)


def _instructed(row: dict[str, Any], where: str) -> tuple[Turn, ...]:
    instruction, given = _text(row, "instruction", where), _text(row, "inputs", where)
    answer = _text(row, "outputs", where)
    if not instruction or not answer:
        raise UserError(f"{where}: its instruction or its output is empty.")
    return (Turn(f"{instruction}\n{given}" if given else instruction, answer),)


def _sample(
    source: str, file: Path, where: str, pictures: tuple[Picture, ...], turns: tuple[Turn, ...], code: str
) -> Sample:
    name = f"{file.stem}-{where.rpartition(' ')[2]}"
    return Sample(id=name, images=pictures, turns=turns, language=code, task="instruction", source=source)


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key) or ""
    if not isinstance(value, str):
        raise UserError(f"{where}: '{key}' is no text.")
    return check_text(value.strip(), f"{where}: '{key}'") if value.strip() else ""


def _files(path: Path, *suffixes: str) -> list[Path]:
    files = [path] if path.is_file() else sorted(file for file in path.glob("*") if file.suffix in suffixes)
    if not files or files[0].suffix not in suffixes:
        raise UserError(f"'{path}' is no {' or '.join(suffixes)} file, and holds none: check the path.")
    return files


Row = tuple[str, dict[str, Any], tuple[Any, ...]]


def _parquet_rows(file: Path, needed: Sequence[str]) -> Iterator[Row]:
    """(place, cells, pictures) of every row; a column of single pictures is not read."""
    arrow, parquet = pyarrow_and_parquet()
    try:
        opened = parquet.ParquetFile(file)
        names = list(opened.schema_arrow.names)
        column = next((name for name in PICTURES if name in names), None)
        lacking = [name for name in needed if name not in names] + ([] if column else ["image"])
        if column is None or lacking:
            raise UserError(f"'{file}' has no column '{lacking[0]}': is it the published file?")
        kept = [name for name in names if name not in PICTURES]
        number = 0
        several = arrow.types.is_list(opened.schema_arrow.field(column).type)
        for group in range(opened.num_row_groups):
            counts = [1] * opened.metadata.row_group(group).num_rows
            if several:
                cells = opened.read_row_group(group, [column], use_threads=False).column(column)
                counts = [len(cell) if cell.is_valid else 0 for cell in cells]
            for at, row in enumerate(opened.read_row_group(group, kept, use_threads=False).to_pylist()):
                number += 1
                pictures = (CellPicture(file, group, at, column, place) for place in range(counts[at]))
                yield f"{file}, row {number}", row, tuple(pictures)
    except (OSError, arrow.ArrowException) as error:
        raise UserError(f"'{file}' cannot be read: {error}.") from error


def _json_rows(file: Path) -> Iterator[Row]:
    place = 0
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{file}, line {number}"
            start, place = place, place + len(line)
            if not line.strip():
                continue
            row = parse_json(decode(line.removeprefix(codecs.BOM_UTF8), where), where)
            held = row.pop("image_base64_str", None) if isinstance(row, dict) else None
            if not isinstance(held, str | list):
                raise UserError(
                    f"{where}: it is no row of M3IT: it has no 'image_base64_str' of text or a list."
                )
            count = 1 if isinstance(held, str) else len(held)
            yield where, row, tuple(LinePicture(file, start, at) for at in range(count))


def _picture_bytes(cell: Any, number: int, name: str) -> bytes:
    """The bytes of a cell: {"bytes": ...}, base64, or a list of that."""
    found = cell[number] if isinstance(cell, list) and number < len(cell) else cell
    if isinstance(found, dict):
        found = found.get("bytes")
    if isinstance(found, str):
        try:
            return base64.b64decode(found, validate=True)
        except binascii.Error as error:
            raise UserError(f"The picture '{name}' is no base64: {error}.") from error
    if not isinstance(found, bytes):
        raise UserError(f"The picture '{name}' is missing.")
    return found
