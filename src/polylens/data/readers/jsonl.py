"""The project's own format: JSON Lines, one sample each.

    {"id": "42", "images": ["42.jpg"], "turns": [["Caption in German: ", "Ein Hund."]], "language": "de",
     "task": "caption", "source": "coco", "extra": {}}

An image is a path (beside the file, in the folder `images`, or absolute), ARCHIVE.zip!MEMBER or SHARD.tar!MEMBER.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from polylens.data.images import ArchivePicture, FilePicture
from polylens.data.listing import PassedOver, is_system
from polylens.data.rows import Ids, check_text, json_lines, list_field, text_field
from polylens.data.sample import Picture, Sample, Turn
from polylens.data.tars import PACKED_TAR, TarPicture, tar_picture
from polylens.data.unreadable import Unreadable
from polylens.errors import UserError
from polylens.files import find_file
from polylens.languages import language, language_codes

SUFFIXES = (".jsonl", ".jsonl.gz")
PACKED = (".jsonl.bz2", ".jsonl.xz", ".jsonl.zst", ".jsonl.zip", ".jsonl.lz4")


def read_jsonl(
    path: str | Path,
    *,
    languages: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    images: str | Path | None = None,
    unreadable: Unreadable | None = None,
) -> Iterator[Sample]:
    """Samples of one file, or of all `*.jsonl` and `*.jsonl.gz` of a folder by name.

    `languages` and `tasks` keep only those. Raises `UserError`, with the line, for what is not as described
    above, and for an id that one source has twice.
    """
    wanted = None if languages is None else set(language_codes(languages))
    seen, skip = Ids(), unreadable or Unreadable()
    for file in _files(Path(path)):
        for number, row in json_lines(file):
            where = f"{file}, line {number}"
            sample = skip.made(partial(sample_from_row, row, Path(images) if images else file.parent, where))
            if sample is None:
                continue
            seen.add(sample.id, where, sample.source)
            if (wanted is None or sample.language in wanted) and (tasks is None or sample.task in tasks):
                yield sample


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    hidden, files = PassedOver(), []
    for file in sorted(path.iterdir()):
        if not file.name.lower().endswith((*SUFFIXES, *PACKED)):
            continue
        if is_system(file.name):
            hidden.add(file.name)
        elif file.name.lower().endswith(PACKED):
            raise UserError(
                f"The folder '{path}' holds '{file.name}', packed in another way than gzip: unpack it."
            )
        else:
            files.append(file)
    hidden.report(path)
    if not files:
        raise UserError(f"The folder '{path}' holds no {' or '.join(SUFFIXES)} file: check the path.")
    return files


def sample_from_row(row: dict[str, Any], folder: Path, where: str) -> Sample:
    """The sample of one line; its images are looked for from `folder`. Raises `UserError` naming `where`."""
    unknown = next((key for key in row if key not in Sample.__dataclass_fields__), None)
    if unknown:
        raise UserError(f"{where}: '{unknown}' is no field of a sample: put it into 'extra'.")
    extra = row.get("extra", {})
    if not isinstance(extra, dict):
        raise UserError(f"{where}: 'extra' is no JSON object.")
    try:
        code = language(text_field(row, "language", where)).code
    except UserError as error:
        raise UserError(f"{where}: {error}" if where not in str(error) else str(error)) from error
    turns = tuple(
        _turn(turn, f"{where}, turn {i}") for i, turn in enumerate(list_field(row, "turns", where), 1)
    )
    if not turns:
        raise UserError(f'{where}: no turn: write "turns": [[prompt, answer]].')
    names = list_field({"images": row.get("images", [])}, "images", where)
    return Sample(
        id=text_field(row, "id", where),
        images=tuple(picture_at(folder, name, where) for name in names),
        turns=turns,
        language=code,
        task=text_field(row, "task", where),
        source=text_field(row, "source", where),
        extra=extra,
    )


def _turn(value: Any, where: str) -> Turn:
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(text, str) for text in value):
        raise UserError(f"{where} is not [prompt, answer].")
    prompt, answer = value
    return Turn(
        check_text(prompt, f"{where}: the prompt") if prompt else "",
        check_text(answer, f"{where}: the answer"),
    )


def picture_at(folder: Path, name: Any, where: str = "") -> Picture:
    """The picture that a text names, seen from `folder`; whether a file is there is not looked at.

    Raises `UserError` for what is no name, and for a tar's member that is not there.
    """
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{where}: an image is {json.dumps(name)[:40]}, and a path was expected.")
    archive, mark, member = name.partition("!")
    if mark and archive.lower().endswith(".zip"):
        return ArchivePicture(folder / archive, member)
    if mark and archive.lower().endswith(".tar"):
        return tar_picture(folder / archive, member)
    if mark and PACKED_TAR.search(archive):
        raise UserError(f"{where}: '{archive}' is a packed tar: unpack it, and name its .tar.")
    found = find_file(folder, name) or find_file(folder / "images", name)
    return FilePicture(found or folder / name)


def sample_to_row(sample: Sample, folder: str | Path) -> dict[str, Any]:
    """One line's content, with images named from `folder` where they lie below it.

    Raises `UserError` for a picture that has no place on disk.
    """
    return {
        "id": sample.id,
        "images": [_place(picture, Path(folder), sample) for picture in sample.images],
        "turns": [[turn.prompt, turn.answer] for turn in sample.turns],
        "language": sample.language,
        "task": sample.task,
        "source": sample.source,
        "extra": sample.extra,
    }


def dump_row(row: dict[str, Any]) -> str:
    """The row as a line, line feed included: other characters that end lines elsewhere stay as they are.

    Raises `UserError` for a value that JSON does not have.
    """
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
    except (ValueError, TypeError) as error:
        raise UserError(f"Sample '{row.get('id')}' of {row.get('source')} is no JSON: {error}.") from error


def write_jsonl(samples: Iterable[Sample], path: str | Path) -> int:
    """Write samples to one file, whole or not at all, and return how many. Images stay where they are."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    count = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            for count, sample in enumerate(samples, start=1):  # noqa: B007 (counts)
                file.write(dump_row(sample_to_row(sample, path.parent)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _place(picture: Picture, folder: Path, sample: Sample) -> str:
    if isinstance(picture, ArchivePicture):
        return f"{_from(picture.archive, folder)}!{picture.member}"
    if isinstance(picture, TarPicture):
        return f"{_from(picture.archive, folder)}!{picture.member.name}"
    if isinstance(picture, FilePicture):
        return _from(picture.path, folder)
    raise UserError(f"The picture of sample '{sample.id}' has no place on disk: save it as a file first.")


def _from(path: Path, folder: Path) -> str:
    absolute, base = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
    return absolute.relative_to(base).as_posix() if absolute.is_relative_to(base) else str(absolute)
