"""Benchmarks that come as rows with the pictures inside: Parquet files of a data set's page, or JSON lines."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from polylens.data.images import decode_image
from polylens.data.listing import files_below, is_system
from polylens.data.rows import json_lines
from polylens.errors import UserError

INSTALL = "pip install 'polylens[parquet]'"


@dataclass(frozen=True)
class ParquetPicture:
    """A picture in a column of a Parquet file, as `{"bytes": ..., "path": ...}` or the bytes themselves."""

    path: Path
    row_group: int
    row: int
    column: str

    @property
    def key(self) -> str:
        status = self.path.stat()
        place = f"{self.row_group}:{self.row}:{self.column}"
        return f"{self.path.resolve()}!{place}:{status.st_size}:{status.st_mtime_ns}"

    def read(self) -> bytes:
        value = _column(str(self.path), self.row_group, self.column)[self.row].as_py()
        data = value["bytes"] if isinstance(value, Mapping) else value
        if not isinstance(data, bytes):
            raise UserError(f"'{self.path}', row {self.row}: the column '{self.column}' holds no picture.")
        return data

    def load(self) -> Image.Image:
        return decode_image(self.read(), f"{self.path}!{self.row_group}:{self.row}:{self.column}")


def read_table(folder: Path, what: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of all `*.parquet` files of a folder, or of all `*.jsonl` ones; Parquet's pictures as pictures.

    Raises `UserError` when there is none, and when the library that reads Parquet is missing.
    """
    files = [file for file in files_below(folder) if not is_system(file.relative_to(folder).as_posix())]
    tables = [file for file in files if file.suffix == ".parquet"]
    lines = [file for file in files if file.suffix == ".jsonl"]
    if not tables and not lines:
        raise UserError(f"'{folder}' holds no file of {what}: give the folder with its *.parquet or *.jsonl.")
    for path in tables:
        yield from _parquet_rows(path)
    if not tables:
        for path in lines:
            yield from ((f"{path}, line {number}", row) for number, row in json_lines(path))


def pictures_of(row: Mapping[str, Any], where: str) -> tuple[Any, ...]:
    """The pictures of a row: its fields called image or img, image_a, image_1 ..., in their order; no stacked copies.

    Raises `UserError` when there is none.
    """
    names = [name for name in row if re.match(r"(image|img)s?(_?[a-z0-9]{1,2})?$", name.lower())]
    pictures: list[Any] = []
    for name in sorted(names, key=_natural):
        value = row[name]
        pictures += value if isinstance(value, list) else [value]
    if not pictures or not all(isinstance(one, str | ParquetPicture) for one in pictures):
        raise UserError(f"{where}: no field 'image', 'image_a' ... with a picture or its name.")
    return tuple(pictures)


def _natural(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name)]


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    parquet = _pyarrow()
    try:
        file = parquet.ParquetFile(path)
        columns = {name: _is_picture(file.schema_arrow.field(name).type) for name in file.schema_arrow.names}
        plain = [name for name, picture in columns.items() if not picture]
        for group in range(file.num_row_groups):
            for place, row in enumerate(file.read_row_group(group, columns=plain).to_pylist()):
                inside = {name: ParquetPicture(path, group, place, name) for name in columns if columns[name]}
                yield f"{path}, row {place} of group {group}", row | inside
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' is no readable Parquet file ({error}): get it again.") from error


def _is_picture(kind: Any) -> bool:
    import pyarrow

    inner = [field.name for field in kind] if pyarrow.types.is_struct(kind) else []
    return "bytes" in inner or pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)


# One row group holds a few hundred pictures at most; rows are read in their order.
@lru_cache(maxsize=2)
def _column(path: str, row_group: int, column: str) -> Any:
    return _pyarrow().ParquetFile(path).read_row_group(row_group, columns=[column]).column(column)


def _pyarrow() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"Parquet files need pyarrow: {INSTALL}.") from error
    return parquet
