"""Samples on disk as they are streamed, and where everything lies in them.

    FOLDER/PART/00000.tar      or .parquet: the pictures once, and the samples about them (containers.py)
    FOLDER/PART/00000.json     places of its records and samples; a shard counts once this is there
    FOLDER/PART/part.json      what it was made of, sizes and counts; written last

Written in the order of the source. Whatever kills the writing, what is whole stays, and the same call goes on.
"""

import hashlib
import io
import json
import os
import secrets
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, groupby, islice
from pathlib import Path
from typing import Any, overload

from PIL import Image

from polylens.data.containers import CONTAINERS, Container, Record
from polylens.data.images import StoredPicture, decode_image
from polylens.data.rows import read_json
from polylens.data.sample import Picture, Sample, Turn, stored_at
from polylens.data.spec import Format, Part
from polylens.data.unreadable import Unreadable
from polylens.errors import UserError
from polylens.files import make_writable_folder, write_atomic

SHARD_BYTES = 128 << 20
SHARD_SAMPLES = 8192
# Pictures that are read and checked at the same time, and samples about one picture that share a record.
AHEAD = 128
PER_RECORD = 64
OPEN_INDEXES = 32
ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "JPEG2000": "jp2", "TIFF": "tif"}

Read = Callable[[Part, int, Unreadable], Iterable[Sample]]
Advance = Callable[[str, int], None]


@dataclass
class _Record:
    """Samples about the same pictures, with these pictures' bytes."""

    samples: list[Sample]
    taken: int  # how many samples of the stream these are, those that could not be read included
    pictures: list[tuple[bytes, str]] = field(default_factory=list)  # (bytes, ending)

    @property
    def size(self) -> int:
        return sum(len(data) for data, _ in self.pictures)


def write_shards(
    part: Part,
    seed: int,
    unreadable: Unreadable,
    folder: Path,
    read: Read,
    advance: Advance,
    format: Format = "tar",
) -> None:
    """Write the samples that `read(part, seed, unreadable)` gives to FOLDER/PART, or what is missing of them.

    Every picture is decoded once, to know that it can be. Raises `UserError` when the folder holds shards of another
    part, and for a full disk.
    """
    folder = make_writable_folder(folder / part.name)
    settings = {"part": part.model_dump(mode="json", exclude={"weight"}), "seed": seed, "format": format}
    made_of = json.loads(json.dumps(settings))
    begun = folder / "begun.json"
    if begun.exists() and read_json(begun) != made_of:
        raise UserError(
            f"'{folder}' holds shards that were made with other settings: choose another folder, or delete it."
        )
    if (folder / "part.json").exists():
        return
    write_atomic(begun, json.dumps(made_of, ensure_ascii=False, indent=1))
    for leftover in folder.glob(".*"):
        leftover.unlink()
    done = [read_json(path) for path in _whole(folder)]
    written = sum(len(index["samples"]) for index in done)
    unreadable.count += sum(index["left_out"] for index in done)
    stream = iter(read(part, seed, unreadable))
    taken = sum(index["taken"] for index in done)
    if sum(1 for _ in islice(stream, taken)) < taken:
        raise UserError(f"'{folder}' holds more samples than its source gives now: delete it and begin anew.")
    number = len(done)
    for records in _shards(_checked(_records(stream), unreadable)):
        written += _write(folder, number, records, CONTAINERS[format])
        number += 1
        advance(part.name, written)
    indexes = [read_json(path) for path in _whole(folder)]
    if not written:
        raise UserError(f"The part '{part.name}' has no sample whose pictures can be read.")
    counts = Counter((language, task) for index in indexes for _, _, language, task in index["samples"])
    identity = hashlib.sha256("".join(index["ids"] for index in indexes).encode()).hexdigest()
    about = {
        "sizes": [len(index["samples"]) for index in indexes],
        "counts": [[language, task, count] for (language, task), count in counts.items()],
        "left_out": unreadable.count,
        "identity": identity,
    }
    write_atomic(folder / "part.json", json.dumps(made_of | about, ensure_ascii=False, indent=1))


def _whole(folder: Path) -> list[Path]:
    """The indexes of the whole shards, from the first on without a gap."""
    paths: list[Path] = []
    while (path := folder / f"{len(paths):05d}.json").exists():
        paths.append(path)
    return paths


def _records(stream: Iterator[Sample]) -> Iterator[_Record]:
    """Neighbouring samples of the same pictures together."""
    for _, samples in groupby(stream, lambda sample: tuple(picture.key for picture in sample.images)):
        while some := list(islice(samples, PER_RECORD)):
            yield _Record(some, len(some))


def _checked(records: Iterator[_Record], unreadable: Unreadable) -> Iterator[_Record]:
    """Records with their pictures; those that cannot be decoded have no sample left."""

    def load(record: _Record) -> list[tuple[bytes, str]] | UserError:
        try:
            return [_stored(picture) for picture in record.samples[0].images]
        except UserError as error:
            return error

    def look(sample: Sample) -> None:
        if isinstance(found, UserError):
            raise found

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while some := list(islice(records, AHEAD)):
            for record, found in zip(some, pool.map(load, some), strict=True):
                record.samples = [sample for sample in record.samples if unreadable.keep(sample, look)]
                record.pictures = [] if isinstance(found, UserError) else found
                yield record


def _stored(picture: Picture) -> tuple[bytes, str]:
    """(bytes, ending) of a picture that was decoded to see whether it can be."""
    name = stored_at(picture)
    if not isinstance(picture, StoredPicture):
        data = io.BytesIO()
        picture.load().save(data, "PNG")
        return data.getvalue(), "png"
    bytes_ = picture.read()
    decode_image(bytes_, name)
    kind = str(Image.open(io.BytesIO(bytes_)).format)
    return bytes_, ENDINGS.get(kind, kind.lower())


def _shards(records: Iterator[_Record]) -> Iterator[list[_Record]]:
    shard: list[_Record] = []
    size = count = 0
    for record in records:
        shard.append(record)
        size, count = size + record.size, count + len(record.samples)
        if size >= SHARD_BYTES or count >= SHARD_SAMPLES:
            yield shard
            shard, size, count = [], 0, 0
    if shard:
        yield shard


def _write(folder: Path, number: int, records: Sequence[_Record], container: Container) -> int:
    """Write one shard and its index, and return how many samples it holds."""
    kept = [record for record in records if record.samples]
    taken = sum(record.taken for record in records)
    temporary = folder / f".{secrets.token_hex(8)}.{container.ending}"
    try:
        rows = [Record([_row(sample) for sample in each.samples], each.pictures) for each in kept]
        places = container.write(temporary, rows)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, folder / f"{number:05d}.{container.ending}")
    except OSError as error:
        raise UserError(
            f"'{folder}' cannot be written: {(error.strerror or str(error)).lower()}. Make room; the same command "
            "goes on from here."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    held = [(place, i, sample) for place, each in enumerate(kept) for i, sample in enumerate(each.samples)]
    ids = [f"{sample.source}/{sample.id}/{sample.language}/{sample.task}\n" for _, _, sample in held]
    index = {
        "records": places,
        "samples": [[place, i, sample.language, sample.task] for place, i, sample in held],
        "taken": taken,
        "left_out": taken - len(held),
        "ids": hashlib.sha256("".join(ids).encode()).hexdigest(),
    }
    write_atomic(folder / f"{number:05d}.json", json.dumps(index, ensure_ascii=False))
    return len(held)


def _row(sample: Sample) -> dict[str, Any]:
    turns = [[turn.prompt, turn.answer] for turn in sample.turns]
    row = {"id": sample.id, "turns": turns, "language": sample.language, "task": sample.task}
    return row | {"source": sample.source, "extra": sample.extra}


class ShardedSamples(Sequence[Sample]):
    """The samples of a part's shards, each read when it is asked for."""

    def __init__(self, folder: Path, about: dict[str, Any]):
        self.folder = folder
        self._about = about
        self._ends = list(accumulate(about["sizes"]))
        self._index = lru_cache(maxsize=OPEN_INDEXES)(self._read_index)

    @property
    def identity(self) -> str:
        return self._about["identity"]

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """Samples by (language, task)."""
        return Counter({(language, task): count for language, task, count in self._about["counts"]})

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """How many samples each shard has."""
        return tuple(self._about["sizes"])

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, number: int) -> Sample: ...

    @overload
    def __getitem__(self, number: slice) -> list[Sample]: ...

    def __getitem__(self, number: int | slice) -> Sample | list[Sample]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        shard = bisect_right(self._ends, number)
        index = self._index(shard)
        record, place, _, _ = index["samples"][number - (self._ends[shard - 1] if shard else 0)]
        container = CONTAINERS[self._about["format"]]
        file, held = self.folder / f"{shard:05d}.{container.ending}", index["records"][record]
        try:
            row = container.rows(file, held)[place]
        except (ValueError, LookupError) as error:
            raise UserError(f"'{file}' is damaged: delete '{self.folder}' and begin anew.") from error
        return Sample(
            id=row["id"],
            images=container.pictures(file, held),
            turns=tuple(Turn(prompt, answer) for prompt, answer in row["turns"]),
            language=row["language"],
            task=row["task"],
            source=row["source"],
            extra=row["extra"],
        )

    def _read_index(self, shard: int) -> dict[str, Any]:
        return read_json(self.folder / f"{shard:05d}.json")


def open_shards(folder: Path) -> ShardedSamples:
    """The samples of a folder that `write_shards` filled. Raises `UserError` when it is not whole."""
    if not (folder / "part.json").is_file():
        raise UserError(f"'{folder}' holds no whole shards: train, or write them with 'polylens mix'.")
    return ShardedSamples(folder, read_json(folder / "part.json"))
