"""WebDataset tars, as img2dataset writes them: `000000012.jpg`, `000000012.txt`, `000000012.json` are one sample."""

import glob
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from polylens.data.listing import PICTURES, PassedOver, files_below, is_system
from polylens.data.rows import Ids, check_text, decode, parse_json
from polylens.data.sample import Sample, Turn
from polylens.data.tars import PACKED_TAR, Member, TarPicture, members, read_member
from polylens.data.unreadable import Unreadable
from polylens.errors import UserError
from polylens.languages import language as find_language

SOURCE = "webdataset"
TAR = ".tar"


def read_webdataset(
    path: str | Path,
    *,
    language: str = "en",
    caption: str | None = None,
    unreadable: Unreadable | None = None,
) -> Iterator[Sample]:
    """One plain caption sample per key, in the order of tars and members.

    `path` is a tar, a folder of tars (those in its folders too), or a pattern with `*`. The caption is the member
    `.txt`, or the field `caption` of `.json` if that is named; `language` is that of all. An id is the tar's path
    below the folder that all tars share, and the key. Hidden files are passed over and counted aloud. Raises
    `UserError` for a tar that is packed, damaged or cut short, and for a key that has no image or no caption, has
    two of them, or comes twice.
    """
    code = find_language(language).code
    tars = _tars(path)
    base = Path(os.path.commonpath([os.path.abspath(tar.parent) for tar in tars]))
    seen, skip = Ids(), unreadable or Unreadable()
    for tar in tars:
        shard = Path(os.path.abspath(tar)).relative_to(base).with_suffix("").as_posix()
        for key, parts in _keys(tar):
            where = f"{tar}!{key}"
            name = f"{shard}/{key}"
            seen.add(name, where)
            found = skip.made(partial(_pair, tar, parts, caption, where))
            if found is None:
                continue
            image, text = found
            yield Sample(
                id=name,
                images=(TarPicture(tar, image),),
                turns=(Turn("", text),),
                language=code,
                task="caption",
                source=SOURCE,
                extra={"image": name},
            )


def _tars(path: str | Path) -> list[Path]:
    """The tars that a path names; what a folder holds beside them is counted aloud."""
    if not Path(path).is_dir():
        tars = [Path(name) for name in sorted(glob.glob(str(path)))] if "*" in str(path) else [Path(path)]
    else:
        tars, others = [], PassedOver()
        for file in files_below(path):
            name = file.relative_to(path).as_posix()
            if PACKED_TAR.search(file.name) and not is_system(name):
                raise UserError(f"The folder '{path}' holds '{name}', a packed tar: unpack it first.")
            if file.suffix.lower() == TAR and not is_system(name):
                tars.append(file)
            else:
                others.add(name)
        others.report(path, "files that are no tars")
    if not tars:
        raise UserError(f"There is no tar file in '{path}': check the path.")
    return tars


def _keys(tar: Path) -> Iterator[tuple[str, dict[str, Member]]]:
    """(key, members by ending) of each run of members with one key: the name up to the first dot of its last part."""
    key = ""
    parts: dict[str, Member] = {}
    done: set[str] = set()
    hidden = PassedOver()
    for member in members(tar):
        if is_system(member.name):
            hidden.add(member.name)
            continue
        place = PurePosixPath(member.name)
        stem, _, ending = place.name.partition(".")
        mine = (place.parent / stem).as_posix()
        if parts and mine != key:
            yield key, parts
            done.add(key)
            parts = {}
        key = mine
        if key in done:
            raise UserError(f"{tar}!{key}: the key is there twice, or its members do not lie together.")
        if ending.lower() in parts:
            raise UserError(f"{tar}!{key}: the key is there twice, with two files .{ending.lower()}.")
        parts[ending.lower()] = member
    hidden.report(tar)
    if parts:
        yield key, parts


def _pair(tar: Path, parts: dict[str, Member], field: str | None, where: str) -> tuple[Member, str]:
    return _only_image(parts, where), _caption(tar, parts, field, where)


def _only_image(parts: dict[str, Member], where: str) -> Member:
    found = [ending for ending in parts if ending in PICTURES]
    if not found:
        raise UserError(f"{where} has no image ({', '.join(PICTURES)}), only {', '.join(parts)}.")
    if len(found) > 1:
        raise UserError(f"{where} has {len(found)} images ({', '.join(found)}): give each its own key.")
    return parts[found[0]]


def _caption(tar: Path, parts: dict[str, Member], field: str | None, where: str) -> str:
    kind = "txt" if field is None else "json"
    if kind not in parts:
        raise UserError(
            f"{where} has no .{kind}, only {', '.join(parts)}: name the 'caption' field of its .json."
        )
    text = decode(read_member(tar, parts[kind]), f"{where}.{kind}")
    if field is None:
        return check_text(text.strip("\r\n"), f"{where}.txt")
    row = parse_json(text, f"{where}.json")
    value = row.get(field) if isinstance(row, dict) else None
    if not isinstance(value, str):
        raise UserError(f"{where}.json has no text '{field}'.")
    return check_text(value, f"{where}.json: '{field}'")
