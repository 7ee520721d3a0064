"""What a shard's file is: a tar, which any WebDataset reader reads, or Parquet, which datasets and pandas read.

A record is the samples about the same pictures, with these pictures once:

    tar        000000.jpg, 000000.json; of two pictures 000000.0.jpg, 000000.1.jpg
    parquet    a row of `samples`, a list of structs (`extra` as JSON), and `images`, a list of {bytes, path}

A place says where a record lies in its file: a list that JSON can hold.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from PIL import Image

from polylens.data.images import decode_image
from polylens.data.rows import decode, parse_json
from polylens.data.sample import Picture
from polylens.data.spec import Format
from polylens.data.tars import Member, TarPicture, read_member
from polylens.errors import UserError

INSTALL = "pip install 'polylens[parquet]'"
# Records of a row group: what is read to get at one of them.
GROUP = 4
OPEN_FOOTERS = 32


class Record(NamedTuple):
    """Samples as JSON objects, and (bytes, ending) of their pictures."""

    rows: list[dict[str, Any]]
    pictures: list[tuple[bytes, str]]


class Container(Protocol):
    """Writes records to a file, and reads each of them from where it lies."""

    ending: str

    def write(self, path: Path, records: Sequence[Record]) -> list[Any]:
        """Write a file; returns the records' places. Raises `OSError` where it cannot be written."""

    def rows(self, path: Path, place: Any) -> list[dict[str, Any]]:
        """The samples of a record. Raises `UserError` for a file that is missing or cut short, or `ValueError`."""

    def pictures(self, path: Path, place: Any) -> tuple[Picture, ...]:
        """Its pictures, not read yet."""


class Tar:
    """Place: [[name, offset, size] of the samples, [[name, offset, size, digest] of each picture]]."""

    ending = "tar"

    def write(self, path: Path, records: Sequence[Record]) -> list[Any]:
        places = []
        with tarfile.open(path, "w:", format=tarfile.USTAR_FORMAT) as tar:
            for number, record in enumerate(records):
                key = f"{number:06d}"
                pictures = []
                for i, (data, ending) in enumerate(record.pictures):
                    name = f"{key}.{ending}" if len(record.pictures) == 1 else f"{key}.{i}.{ending}"
                    pictures.append([*_add(tar, name, data), hashlib.sha256(data).hexdigest()])
                rows = json.dumps(record.rows, ensure_ascii=False, allow_nan=False).encode()
                places.append([_add(tar, f"{key}.json", rows), pictures])
        return places

    def rows(self, path: Path, place: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = parse_json(
            decode(read_member(path, Member(*place[0])), str(path)), str(path)
        )
        return found

    def pictures(self, path: Path, place: Any) -> tuple[Picture, ...]:
        return tuple(TarPicture(path, Member(*member), digest) for *member, digest in place[1])


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> list[Any]:
    """Add a member; returns [name, offset of its bytes, size]."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
    padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return [name, tar.offset - padded, len(data)]


class Parquet:
    """Place: [row group, row in it, [digest of each picture]]."""

    ending = "parquet"

    def write(self, path: Path, records: Sequence[Record]) -> list[Any]:
        arrow, parquet = pyarrow_and_parquet()
        schema = _schema()
        places: list[Any] = []
        # Statistics of pictures would be pictures.
        with parquet.ParquetWriter(path, schema, compression="zstd", write_statistics=False) as writer:
            for start in range(0, len(records), GROUP):
                rows: list[dict[str, Any]] = []
                for record in records[start : start + GROUP]:
                    digests = [hashlib.sha256(data).hexdigest() for data, _ in record.pictures]
                    images = [
                        {"bytes": data, "path": f"{digest}.{ending}"}
                        for digest, (data, ending) in zip(digests, record.pictures, strict=True)
                    ]
                    places.append([start // GROUP, len(rows), digests])
                    rows.append({"samples": [_to_struct(row) for row in record.rows], "images": images})
                writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
        return places

    def rows(self, path: Path, place: Any) -> list[dict[str, Any]]:
        group, row, _ = place
        return [_from_struct(struct) for struct in _cell(path, group, "samples", row)]

    def pictures(self, path: Path, place: Any) -> tuple[Picture, ...]:
        group, row, digests = place
        return tuple(ParquetPicture(path, group, row, i, digest) for i, digest in enumerate(digests))


@dataclass(frozen=True)
class ParquetPicture:
    """A picture in a Parquet shard. Safe to read from threads and forked workers: every read opens the file anew."""

    archive: Path
    group: int
    row: int
    number: int
    digest: str

    @property
    def name(self) -> str:
        return f"{self.archive}, row group {self.group}, row {self.row}, picture {self.number}"

    @property
    def key(self) -> str:
        return f"sha256:{self.digest}"

    def read(self) -> bytes:
        """Its bytes. Raises `UserError` when the file is missing or damaged."""
        data: bytes = _cell(self.archive, self.group, "images", self.row)[self.number]["bytes"]
        return data

    def load(self) -> Image.Image:
        return decode_image(self.read(), self.name)


CONTAINERS: dict[Format, Container] = {"tar": Tar(), "parquet": Parquet()}


def _cell(path: Path, group: int, column: str, row: int) -> Any:
    arrow, parquet = pyarrow_and_parquet()
    try:
        footer = _footer(str(path), os.stat(path).st_mtime_ns)
        # Its threads would not survive a fork.
        table = parquet.ParquetFile(path, metadata=footer).read_row_group(group, [column], use_threads=False)
        return table.column(column)[row].as_py()
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    except (arrow.ArrowException, IndexError) as error:
        raise UserError(f"'{path}' is cut short or damaged ({error}): write the shards anew.") from error


@lru_cache(maxsize=OPEN_FOOTERS)
def _footer(path: str, changed: int) -> Any:
    return pyarrow_and_parquet()[1].read_metadata(path)


@cache
def _schema() -> Any:
    arrow, _ = pyarrow_and_parquet()
    text = arrow.string()
    turn = arrow.struct({"prompt": text, "answer": text})
    sample = arrow.struct(
        {
            "id": text,
            "turns": arrow.list_(turn),
            "language": text,
            "task": text,
            "source": text,
            "extra": text,
        }
    )
    image = arrow.struct({"bytes": arrow.binary(), "path": text})
    return arrow.schema({"samples": arrow.list_(sample), "images": arrow.list_(image)})


def _to_struct(row: dict[str, Any]) -> dict[str, Any]:
    turns = [{"prompt": prompt, "answer": answer} for prompt, answer in row["turns"]]
    return row | {"turns": turns, "extra": json.dumps(row["extra"], ensure_ascii=False, allow_nan=False)}


def _from_struct(struct: dict[str, Any]) -> dict[str, Any]:
    turns = [[turn["prompt"], turn["answer"]] for turn in struct["turns"]]
    return struct | {"turns": turns, "extra": json.loads(struct["extra"])}


def pyarrow_and_parquet() -> tuple[Any, Any]:
    """(pyarrow, its parquet). Raises `UserError` where it is not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"Parquet needs pyarrow, which is not installed: {INSTALL}.") from error
    return pyarrow, parquet
