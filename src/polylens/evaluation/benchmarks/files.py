"""Finding official files as they are: one file per language or one for all, and the names of their pictures."""

import re
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

from polylens.errors import UserError
from polylens.languages import language, language_codes


def wanted(code: str, languages: Container[str] | None) -> bool:
    return languages is None or code in languages


def wanted_code(spelling: Any, languages: Container[str] | None, where: str | Path) -> str | None:
    """The code of a language that a file names; None where it is not asked for.

    Raises `UserError` for an unknown language, unless languages are named: it cannot be one of them.
    """
    try:
        code = language(str(spelling)).code
    except UserError as error:
        if languages is None:
            raise UserError(f"'{where}': {error} Name languages with --lang to leave it out.") from error
        return None
    return code if wanted(code, languages) else None


def wanted_codes(
    spellings: Iterable[str], languages: Container[str] | None, where: str | Path
) -> dict[str, str]:
    """{spelling: code} of the languages asked for.

    Raises `UserError` naming both for two spellings of one language, and naming all for unknown languages, unless
    languages are named.
    """
    spellings = list(spellings)
    if languages is None:
        try:
            language_codes(spellings)
        except UserError as error:
            raise UserError(f"'{where}': {error} Name languages with --lang to leave it out.") from error
    found: dict[str, str] = {}
    for spelling in spellings:
        code = wanted_code(spelling, languages, where)
        if code in found:
            raise UserError(
                f"'{where}': '{found[code]}' and '{spelling}' are both {language(code).name} ('{code}'): keep one."
            )
        if code is not None:
            found[code] = spelling
    return {spelling: code for code, spelling in found.items()}


def files_by_language(
    folder: Path, patterns: Sequence[str], what: str, languages: Container[str] | None = None
) -> dict[str, Path]:
    """{code: its file} of the languages asked for; `{code}` stands for the language in a pattern, in any spelling.

    A language that an earlier pattern has is not looked for by later ones. Raises `UserError` when there is no file
    at all, for two of one language by one pattern, and as `wanted_codes` does; `what` names the benchmark in it.
    """
    found: dict[str, Path] = {}
    anything = False
    for pattern in patterns:
        shape = re.compile(re.escape(pattern).replace(r"\{code\}", r"([^/.][^/]*)"))
        paths: dict[str, Path] = {}
        for path in sorted(folder.glob(pattern.replace("{code}", "*"))):
            match = shape.fullmatch(path.relative_to(folder).as_posix())
            if match and path.is_file():
                paths[match[1]] = path
        anything = anything or bool(paths)
        for spelling, code in wanted_codes(paths, languages, folder).items():
            found.setdefault(code, paths[spelling])
    if not anything:
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
