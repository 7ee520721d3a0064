"""One's own data from one format to another: whatever is read becomes samples, and samples become a file.

captions.jsonl, samples.jsonl, COCO, LLaVA/ShareGPT, HF imagefolder, CSV  ->  samples  ->  captions.jsonl
                                                                                       ->  samples.jsonl
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from polylens.data.captions import FILE_NAME, captions, split_by_image
from polylens.data.readers.coco import read_coco
from polylens.data.readers.jsonl import dump_row, picture_at, read_jsonl, sample_to_row, write_jsonl
from polylens.data.readers.llava import read_llava
from polylens.data.rows import Ids, check_text, decode, json_lines, text_field
from polylens.data.sample import Sample, Turn
from polylens.errors import UserError
from polylens.files import write_atomic
from polylens.languages import language as find_language

Format = Literal["captions", "samples"]
SAMPLES, HELD_OUT = "samples.jsonl", "held-out.txt"
METADATA = ("metadata.jsonl", "metadata.csv")
PICTURE_FIELDS = ("file_name", "image")
TEXT_FIELDS = ("text", "caption")
LANGUAGE_COLUMNS = ("text_", "caption_")


def read_any(path: Path, images: Path | None, language: str) -> Iterator[Sample]:
    """Samples of a file or folder of one's own, by what it is; `language` is that of texts which name none.

    Raises `UserError` for what is none of the known formats, and whatever their readers do.
    """
    folder = images or (path if path.is_dir() else path.parent)
    if path.is_dir():
        if (path / FILE_NAME).is_file():
            return captions(path=path)
        found = next((path / name for name in METADATA if (path / name).is_file()), None)
        if found is not None:
            return _table(found, folder, language)
    elif path.name.lower().endswith(".csv") or path.name in METADATA:
        return _table(path, folder, language)
    elif path.name.lower().endswith((".jsonl", ".jsonl.gz")):
        return captions(path=path.parent) if path.name == FILE_NAME else read_jsonl(path, images=images)
    elif path.suffix.lower() == ".json" and path.is_file():
        with open(path, "rb") as file:
            is_array = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
        return (read_llava if is_array else read_coco)(path, images=folder, language=language)
    raise UserError(
        f"'{path}' is none of what can be converted: a folder with {FILE_NAME} or metadata.jsonl or metadata.csv, "
        "a .csv, a .jsonl of samples, or a .json of COCO or LLaVA."
    )


def write_as(samples: Iterable[Sample], format: Format, out: Path) -> int:
    """Write OUT/captions.jsonl or OUT/samples.jsonl and return its number of lines.

    Raises `UserError` for a file that is there already, and for a sample that is no caption of one picture where
    captions are wanted.
    """
    path = out / (FILE_NAME if format == "captions" else SAMPLES)
    if path.exists():
        raise UserError(f"'{path}' is there already: choose another folder, or move it away.")
    if format == "samples":
        return write_jsonl(samples, path)
    rows: dict[str, dict[str, Any]] = {}
    for sample in samples:
        if sample.task != "caption" or len(sample.images) != 1 or len(sample.turns) != 1:
            raise UserError(
                f"Sample '{sample.id}' of {sample.source} ({sample.task}) is no caption of one picture: convert it to "
                "samples."
            )
        (name,) = sample_to_row(sample, out)["images"]
        if "!" in name:
            raise UserError(f"The picture '{name}' lies in an archive: unpack it, {FILE_NAME} names files.")
        extra = {key: value for key, value in sample.extra.items() if key not in ("image", "captions")}
        row = rows.setdefault(name, {"image": name, "captions": {}} | extra)
        if any(row.get(key, value) != value for key, value in extra.items()):
            raise UserError(f"Two captions of '{name}' differ in their other fields: convert it to samples.")
        row["captions"].setdefault(sample.language, []).append(sample.turns[0].answer)
    write_atomic(path, "".join(dump_row(row) for row in rows.values()))
    return len(rows)


def write_held_out(samples: Sequence[Sample], share: float, out: Path) -> int:
    """Write OUT/held-out.txt, the pictures that training with `split: SHARE` leaves out, and return how many."""
    rest = split_by_image(samples, share)[1]
    names = dict.fromkeys(name for sample in rest for name in sample_to_row(sample, out)["images"])
    write_atomic(out / HELD_OUT, "".join(f"{name}\n" for name in names))
    return len(names)


def _table(path: Path, folder: Path, language: str) -> Iterator[Sample]:
    """Captions of a table: a picture's file, and its text (`language` may be a column), or a column
    such as `caption_de` for each language.
    """
    rows = json_lines(path) if path.suffix.lower() == ".jsonl" else _csv(path)
    seen = Ids()
    for number, row in rows:
        where = f"{path}, line {number}"
        field = next((key for key in PICTURE_FIELDS if key in row), None)
        if field is None:
            raise UserError(f"{where} has no column '{PICTURE_FIELDS[0]}' or '{PICTURE_FIELDS[1]}'.")
        name = text_field(row, field, where)
        texts, used = _texts(row, language, where)
        extra = {key: value for key, value in row.items() if key not in (field, *used)}
        for code, text in texts:
            sample_id = f"{name}:{code}:{number}"
            seen.add(sample_id, where)
            yield Sample(
                id=sample_id,
                images=(picture_at(folder, name, where),),
                turns=(Turn("", text),),
                language=code,
                task="caption",
                source=path.stem if path.name not in METADATA else path.parent.resolve().name,
                extra=extra | {"image": name},
            )


def _texts(row: Mapping[str, Any], language: str, where: str) -> tuple[list[tuple[str, str]], list[str]]:
    """([(language, text)], the columns that these are of)."""
    field = next((key for key in TEXT_FIELDS if key in row), None)
    if field is not None:
        spelling = row.get("language") or language
        return [(find_language(str(spelling)).code, text_field(dict(row), field, where))], [field, "language"]
    # "id" alone may be Indonesian or a number.
    columns = {
        key: find_language(key.partition("_")[2]).code for key in row if key.startswith(LANGUAGE_COLUMNS)
    }
    found = [
        (code, check_text(str(row[key]), f"{where}: '{key}'")) for key, code in columns.items() if row[key]
    ]
    if not found:
        raise UserError(
            f"{where} has no column 'text' or 'caption', and none such as 'caption_de' with a text."
        )
    return found, list(columns)


def _csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, row by column) of a CSV file with a head. Raises `UserError` for rows that do not fit the head."""
    try:
        text = decode(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        head = [name.strip() for name in next(reader, [])]
        if not head or len(set(head)) < len(head):
            raise UserError(f"{path}, line 1: the columns {json.dumps(head)[:80]} are none, or equal.")
        for row in reader:
            if row and len(row) != len(head):
                raise UserError(
                    f"{path}, line {reader.line_num}: {len(row)} columns, and the head has {len(head)}: quote texts "
                    "with commas."
                )
            if row:
                yield reader.line_num, dict(zip(head, row, strict=True))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: no valid CSV ({error}).") from error
