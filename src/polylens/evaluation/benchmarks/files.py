"""Finding official files as they are: one file per language or one for all, and the names of their pictures."""

import re
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from polylens.errors import UserError
from polylens.languages import language


def known_code(spelling: str) -> str:
    """The code of a language as the program writes it; as it is spelled where the table does not have it."""
    try:
        return language(spelling).code
    except UserError:
        return spelling


def wanted(code: str, languages: Container[str] | None) -> bool:
    return languages is None or code in languages


def files_by_language(folder: Path, patterns: Sequence[str], what: str) -> dict[str, Path]:
    """{code: its file}; `{code}` stands for the language in a pattern, and earlier patterns win.

    Raises `UserError` when there is none; `what` names the benchmark in it.
    """
    found: dict[str, Path] = {}
    for pattern in patterns:
        shape = re.compile(re.escape(pattern).replace(r"\{code\}", "([A-Za-z]{2,3}(?:[-_][A-Za-z]{4})?)"))
        for path in sorted(folder.glob(pattern.replace("{code}", "*"))):
            match = shape.fullmatch(path.relative_to(folder).as_posix())
            if match and path.is_file():
                found.setdefault(known_code(match[1]), path)
    if not found:
        shapes = " or ".join(pattern.replace("{code}", "LANGUAGE") for pattern in patterns)
        raise UserError(f"'{folder}' holds no file of {what}: give the folder with {shapes}.")
    return found


def the_file(folder: Path, names: Sequence[str], what: str) -> Path:
    """The first of `names` (globs) that is there. Raises `UserError` when none is, and when a glob fits several."""
    for name in names:
        paths = sorted(path for path in folder.glob(name) if path.is_file())
        if len(paths) > 1:
            shown = ", ".join(path.name for path in paths[:5])
            raise UserError(f"'{folder}' holds several files of {what} ({shown}): leave one in the folder.")
        if paths:
            return paths[0]
    raise UserError(f"'{folder}' holds no file of {what}: give the folder with {' or '.join(names)}.")


def need(row: dict[str, Any], *names: str, path: Path) -> list[Any]:
    """The values of these fields. Raises `UserError` naming the one that is not there."""
    missing = next((name for name in names if name not in row), None)
    if missing is not None:
        raise UserError(
            f"'{path}' has a row without '{missing}' (it has {', '.join(list(row)[:12])}): is it the official file?"
        )
    return [row[name] for name in names]


def coco_names(image_id: int | str, split: str = "val2014") -> tuple[str, ...]:
    """The names that a COCO image may have, in a flat folder or in that of its split, by the rule of 2014 or 2017."""
    number = f"{int(image_id):012d}.jpg"
    old = f"COCO_{split}_{number}"
    recent = split[:-4] + "2017"
    return (old, f"{split}/{old}", number, f"{split}/{number}", f"{recent}/{number}")
