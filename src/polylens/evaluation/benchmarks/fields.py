"""Values of official files, each of the kind that its benchmark needs, or an error that names file and row."""

from typing import Any

from polylens.errors import UserError
from polylens.evaluation.benchmarks.letters import LETTERS


def text_of(value: Any, name: str, where: str) -> str:
    """A text, which may be empty. Raises `UserError` for anything else."""
    if not isinstance(value, str):
        raise UserError(f"{where}: '{name}' is {value!r:.60}: a text was expected.")
    return value


def texts_of(value: Any, name: str, where: str) -> tuple[str, ...]:
    """A list of texts, one or more, any of which may be empty. Raises `UserError` for anything else."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise UserError(f"{where}: '{name}' is {value!r:.60}: a list of texts was expected.")
    if not value:
        raise UserError(f"{where}: '{name}' is empty, so nothing can be scored: give one text or more.")
    return tuple(value)


def options_of(value: Any, name: str, where: str) -> tuple[str, ...]:
    """Texts as `texts_of`, no more than there are letters to name them by."""
    options = texts_of(value, name, where)
    if len(options) > len(LETTERS):
        raise UserError(
            f"{where}: {len(options)} options, and {len(LETTERS)} are the most that letters name."
        )
    return options


def key_of(value: Any, name: str, where: str) -> str:
    """An id or a picture's number as text. Raises `UserError` for what is neither a text nor a whole number."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserError(f"{where}: '{name}' is {value!r:.60}: a text or a number was expected.")
    return str(value)


def place_in(value: Any, count: int, name: str, where: str) -> int:
    """A place from 0 among `count` options. Raises `UserError` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise UserError(f"{where}: '{name}' is {value!r:.60}: {count} options are numbered from 0.")
    return value


def object_of(value: Any, name: str, where: str) -> dict[str, Any]:
    """A JSON object. Raises `UserError` for anything else."""
    if not isinstance(value, dict):
        raise UserError(f"{where}: {name} is {value!r:.60}: an object was expected.")
    return value
