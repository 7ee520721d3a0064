"""WebDataset tars, as img2dataset writes them: `000000012.jpg`, `000000012.txt`, `000000012.json` are one sample."""

import glob
import json
from collections.abc import Iterator
from pathlib import Path

from polylens.data.rows import check_text, decode
from polylens.data.sample import Sample, Turn
from polylens.data.tars import Member, TarPicture, members, read_member
from polylens.errors import UserError
from polylens.languages import language as find_language

SOURCE = "webdataset"
IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")


def read_webdataset(
    path: str | Path,
    *,
    language: str = "en",
    caption: str | None = None,
) -> Iterator[Sample]:
    """One plain caption sample per key, in the order of tars and members.

    `path` is a tar, a folder of tars, or a pattern with `*`. The caption is the member `.txt`, or the field `caption`
    of `.json` if that is named; `language` is that of all. Raises `UserError` for a tar that is packed or cut
    short, and for a key that has no image or no caption, or comes twice in a tar.
    """
    code = find_language(language).code
    for tar in _tars(path):
        seen: set[str] = set()
        for key, parts in _keys(tar):
            where = f"{tar}!{key}"
            if key in seen:
                raise UserError(f"{where}: the key is there twice, or its members do not lie together.")
            seen.add(key)
            image = next((parts[kind] for kind in IMAGES if kind in parts), None)
            if image is None:
                raise UserError(f"{where} has no image ({', '.join(IMAGES)}), only {', '.join(parts)}.")
            yield Sample(
                id=f"{tar.stem}/{key}",
                images=(TarPicture(tar, image),),
                turns=(Turn("", _caption(tar, parts, caption, where)),),
                language=code,
                task="caption",
                source=SOURCE,
                extra={"image": f"{tar.stem}/{key}"},
            )


def _tars(path: str | Path) -> list[Path]:
    if Path(path).is_dir():
        tars = sorted(Path(path).glob("*.tar"))
    else:
        tars = [Path(name) for name in sorted(glob.glob(str(path)))] if "*" in str(path) else [Path(path)]
    if not tars:
        raise UserError(f"There is no tar file in '{path}': check the path.")
    return tars


def _keys(tar: Path) -> Iterator[tuple[str, dict[str, Member]]]:
    """(key, members by ending) of each run of members with one key: the name up to the first dot of its last part."""
    key = ""
    parts: dict[str, Member] = {}
    for member in members(tar):
        folder, slash, name = member.name.removeprefix("./").rpartition("/")
        stem, _, ending = name.partition(".")
        if parts and folder + slash + stem != key:
            yield key, parts
            parts = {}
        key = folder + slash + stem
        parts[ending.lower()] = member
    if parts:
        yield key, parts


def _caption(tar: Path, parts: dict[str, Member], field: str | None, where: str) -> str:
    kind = "txt" if field is None else "json"
    if kind not in parts:
        raise UserError(
            f"{where} has no .{kind}, only {', '.join(parts)}: name the 'caption' field of its .json."
        )
    text = decode(read_member(tar, parts[kind]), f"{where}.{kind}")
    if field is None:
        return check_text(text.strip("\r\n"), f"{where}.txt")
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}.json: not valid JSON ({error}).") from error
    value = row.get(field) if isinstance(row, dict) else None
    if not isinstance(value, str):
        raise UserError(f"{where}.json has no text '{field}'.")
    return check_text(value, f"{where}.json: '{field}'")
