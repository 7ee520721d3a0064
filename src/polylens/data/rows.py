"""The one strict reader of text: UTF-8 with or without a byte order mark, JSON of every shape, lists of lines.

JSON is that of RFC 8259: no NaN, no infinity, no field twice, no half surrogate pair. Whatever cannot be read is a
`UserError` that names the file and the place in it.
"""

import codecs
import gzip
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import regex

from polylens.errors import UserError

BLOCK = 1 << 20
# One object of an array is never this long: what does not end within it is broken.
MAX_OBJECT = 64 << 20
ENCODINGS = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16"}
ENCODINGS |= {codecs.BOM_UTF16_BE: "UTF-16"}
SPACE = " \t\r\n"
# What shows nothing: white space, controls, formats, and fillers such as U+3164 and the empty Braille cell.
INVISIBLE = regex.compile(r"[\s\p{Cc}\p{Cf}\p{Z}\p{Default_Ignorable_Code_Point}\u2800]*+")
ESCAPED_SURROGATE = regex.compile(r"\\u[dD][89a-fA-F]")


def read_json(path: str | Path) -> Any:
    """The content of a JSON file. Raises `UserError` when it is missing, cut short, or not in UTF-8."""
    path = Path(path)
    with _reading(path):
        return parse_json(decode(_open(path).read(), str(path)), str(path))


def json_array(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, object) of a file that is one JSON array, however long: only a piece is in memory.

    Raises `UserError` for a file that is no array of objects, cut short, or not in UTF-8.
    """
    path = Path(path)
    decoder = codecs.getincrementaldecoder("utf-8")()
    text, number, started, after_comma = "", 0, False, False
    with _reading(path), _open(path) as file:
        size = BLOCK
        while True:
            block = file.read(size)
            if not started and not text:
                _check_mark(block, str(path))
                block = block.removeprefix(codecs.BOM_UTF8)
            try:
                text += decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                raise UserError(f"'{path}': not UTF-8 ({error.reason}): save it as UTF-8.") from error
            place = 0
            while True:
                place = _skip(text, place)
                if place == len(text):
                    break
                where = f"{path}, row {number + 1}"
                if not started:
                    if text[place] != "[":
                        raise UserError(f"'{path}' is not a JSON array: is it the right file?")
                    started, place = True, place + 1
                    continue
                if text[place] == "]" and not after_comma:
                    if text[place + 1 :].strip(SPACE) or file.read(BLOCK).strip():
                        raise UserError(f"'{path}' goes on after its end at row {number}: is it two files?")
                    return
                if number and not after_comma:
                    if text[place] != ",":
                        raise UserError(f"{where}: not valid JSON (',' expected).")
                    place, after_comma = place + 1, True
                    continue
                try:
                    row, end = DECODER.raw_decode(text, place)
                    _refuse_half_pairs(text[place:end])
                    place = end
                except json.JSONDecodeError as error:
                    if block and len(text) - place < MAX_OBJECT:
                        break
                    raise UserError(f"{where}: not valid JSON, or cut short ({error.msg}).") from error
                except RecursionError as error:
                    raise UserError(f"{where}: too deeply nested.") from error
                except ValueError as error:
                    raise UserError(f"{where}: {error}.") from error
                number, after_comma = number + 1, False
                if not isinstance(row, dict):
                    raise UserError(f"{where}: not a JSON object.")
                yield number, row
            # Twice as much each time an object does not fit, so that long ones are not parsed again and again.
            size = BLOCK if place else 2 * size
            text = text[place:]
            if not block:
                raise UserError(f"'{path}' is cut short after row {number}: get the file again.")


def json_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a JSON Lines file, packed by gzip or not; empty lines are passed over.

    Only a line feed ends a line: U+2028 and the like stay in their texts. Raises `UserError` for a line that is
    no object, has a field twice, or is not UTF-8.
    """
    path = Path(path)
    with _reading(path), _open(path) as file:
        for number, line in enumerate(file, start=1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            row = parse_json(decode(line, where), where)
            if not isinstance(row, dict):
                raise UserError(f"{where}: not a JSON object.")
            yield number, row


def text_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """(number, line without white space around it) of a text file; empty lines are passed over.

    Only a line feed ends a line, with or without a carriage return before it. Raises `UserError` for a file that is
    missing or not UTF-8, and for a line with a NUL or with another carriage return.
    """
    path = Path(path)
    with _reading(path), _open(path) as file:
        text = decode(file.read(), str(path))
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        if "\r" in line or "\0" in line:
            found = "a carriage return" if "\r" in line else "a NUL"
            raise UserError(f"{path}, line {number}: {found} inside: save it as UTF-8 with line feeds.")
        if line:
            yield number, line


def decode(data: bytes, where: str) -> str:
    """UTF-8 bytes as text. Raises `UserError` for any other encoding, naming it if it names itself."""
    _check_mark(data, where)
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: not UTF-8 ({error.reason} at byte {error.start}): save as UTF-8."
        ) from error


def text_field(row: dict[str, Any], key: str, where: str) -> str:
    """A text that has something to read. Raises `UserError` when it is missing, empty, or half a character."""
    value = row.get(key)
    if not isinstance(value, str):
        raise UserError(f"{where}: '{key}' is {json.dumps(value)[:40]}, and a text was expected.")
    return check_text(value, f"{where}: '{key}'")


def check_text(text: str, where: str) -> str:
    """The text itself. Raises `UserError` when it shows nothing, or holds a NUL or half a surrogate pair."""
    if not text.strip():
        raise UserError(f"{where} is empty: write it or take it out.")
    if INVISIBLE.fullmatch(text):
        codes = ", ".join(f"U+{ord(c):04X}" for c in dict.fromkeys(text[:5]))
        raise UserError(f"{where} is empty, it holds nothing visible ({codes}): write it or take it out.")
    if "\0" in text:
        raise UserError(f"{where} holds a NUL at character {text.index(chr(0))}: take it out.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where} holds half a surrogate pair at character {error.start}: write it anew."
        ) from error
    return text


def list_field(container: Any, key: str, where: str) -> list[Any]:
    """A list in a JSON object. Raises `UserError` when it is something else."""
    value = container.get(key) if isinstance(container, dict) else None
    if not isinstance(value, list):
        raise UserError(f"{where} has no list '{key}': is it the right file?")
    return value


class Ids:
    """Refuses an id that comes a second time. Keeps 8 bytes of each, so that millions fit."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def add(self, name: str, where: str, source: str = "") -> None:
        """Raises `UserError` when `source` has had this id before."""
        number = hash((source, name))
        if number in self._seen:
            raise UserError(f"{where}: the id '{name}' is there twice: give each sample its own.")
        self._seen.add(number)


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in SPACE:
        place += 1
    return place


def _check_mark(data: bytes, where: str) -> None:
    for mark, name in ENCODINGS.items():
        if data.startswith(mark):
            raise UserError(f"{where}: not UTF-8 but {name}: save as UTF-8.")


def _open(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb")


def parse_json(text: str, where: str) -> Any:
    """What a JSON text holds. Raises `UserError`, beginning with `where`, for what RFC 8259 does not allow."""
    try:
        value = DECODER.decode(text)
        _refuse_half_pairs(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON ({error.msg} at character {error.pos}).") from error
    except RecursionError as error:
        raise UserError(f"{where}: too deeply nested.") from error
    except ValueError as error:
        raise UserError(f"{where}: {error}.") from error
    return value


def _refuse_half_pairs(text: str) -> None:
    """Raises `ValueError` for an escape that is half a surrogate pair."""
    if ESCAPED_SURROGATE.search(text) is None:
        return
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = str(error.object)[error.start]
        raise ValueError(f"half a surrogate pair (U+{ord(half):04X}): write it anew") from error


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the number {text} is too large")
    return number


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON: write null, or leave it out")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field '{repeated}' is there twice")
    return row


class _reading:
    """Turns what the system and gzip say of a file into one sentence."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        if not self.path.is_file():
            raise UserError(f"There is no file '{self.path}': check the path.")

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
            raise UserError(f"'{self.path}' is no whole gzip file ({error}): get it again.") from error
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise UserError(f"'{self.path}' cannot be read: {reason}.") from error


DECODER = json.JSONDecoder(object_pairs_hook=_without_repeats, parse_float=_finite, parse_constant=_no_number)
