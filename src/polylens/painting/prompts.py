"""Many prompts out of one file, a picture for each, and the list of them.

    prompts.txt                 a prompt a line
    prompts.jsonl               {"prompt": ..., "language": ..., "id": ...}; only the prompt must be there
    captions_val2014.json       COCO's captions: {"annotations": [{"id": ..., "caption": ...}, ...]}

OUT/prompts.jsonl lists the pictures for `polylens score-paintings`. A run that was stopped draws what is not there yet.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polylens.data.rows import check_text, json_lines, list_field, read_json, text_field
from polylens.errors import UserError
from polylens.files import make_writable_folder, write_atomic
from polylens.languages import language

FILE_NAME = "prompts.jsonl"
RUN = "run.json"


@dataclass(frozen=True)
class Prompt:
    """One picture to draw. `id` names its file."""

    id: str
    text: str
    language: str


def read_prompts(path: str | Path, code: str = "en", limit: int | None = None) -> list[Prompt]:
    """The first `limit` prompts of a file, in its order; `code` is their language where the file gives none.

    Raises `UserError` for a file of another kind, one without prompts, and an id that is there twice.
    """
    path = Path(path)
    default = language(code).code
    kinds = {".jsonl": _rows, ".json": _coco, ".txt": _lines}
    if path.suffix.lower() not in kinds:
        raise UserError(f"'{path}' is no file of prompts: give one of {', '.join(kinds)}.")
    found: dict[str, Prompt] = {}
    for prompt in kinds[path.suffix.lower()](path, default):
        if prompt.id in found:
            raise UserError(f"'{path}' has the id '{prompt.id}' twice: give every prompt its own.")
        found[prompt.id] = prompt
        if limit is not None and len(found) == limit:
            break
    if not found:
        raise UserError(f"'{path}' has no prompt.")
    return list(found.values())


def _rows(path: Path, default: str) -> Iterator[Prompt]:
    for number, row in json_lines(path):
        where = f"{path}, line {number}"
        name = str(row.get("id", f"{number:06d}"))
        if not name or not all(c.isalnum() or c in "-_." for c in name):
            raise UserError(f"{where}: the id '{name}' names a file: use letters, digits, '-', '_' and '.'.")
        yield Prompt(name, text_field(row, "prompt", where), language(row.get("language", default)).code)


def _coco(path: Path, default: str) -> Iterator[Prompt]:
    content = read_json(path)
    for number, row in enumerate(list_field(content, "annotations", str(path)), start=1):
        where = f"{path}, annotation {number}"
        if not isinstance(row, dict) or not isinstance(row.get("id"), int):
            raise UserError(f"{where}: an object with an 'id' was expected.")
        yield Prompt(f"{row['id']:012d}", text_field(row, "caption", where).strip(), default)


def _lines(path: Path, default: str) -> Iterator[Prompt]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The prompts '{path}' cannot be read: {error}.") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            text = check_text(line.strip(), f"{path}, line {number}")
            yield Prompt(f"{number:06d}", text, default)


class Pictures:
    """The folder that the pictures of a file of prompts go to: `ID.png`, or `ID.blocked` with the reason.

    `settings` are all that moves a picture: those of a run that goes on must be the same. Raises `UserError` for a
    folder with another run.
    """

    def __init__(self, folder: Path, prompts: Sequence[Prompt], settings: Mapping[str, Any]) -> None:
        self.folder, self.prompts = make_writable_folder(folder), prompts
        said = json.dumps([[prompt.id, prompt.text, prompt.language] for prompt in prompts])
        identity = {**settings, "prompts": hashlib.sha256(said.encode()).hexdigest()}
        path = self.folder / RUN
        if path.is_file():
            before = read_json(path)
            if other := [key for key in identity if before.get(key) != identity[key]]:
                raise UserError(
                    f"'{folder}' holds pictures of another run ({', '.join(other)} differ): choose another folder."
                )
        write_atomic(path, json.dumps(identity, indent=1, ensure_ascii=False))

    def path(self, prompt: Prompt) -> Path:
        """Where the prompt's picture goes."""
        return self.folder / f"{prompt.id}.png"

    def block(self, prompt: Prompt, why: str) -> None:
        """Note that there will be no picture."""
        write_atomic(self._blocked(prompt), why + "\n")

    def undone(self) -> list[tuple[int, Prompt]]:
        """(place, prompt) of those that are neither drawn nor blocked."""
        numbered = enumerate(self.prompts)
        return [
            (at, p) for at, p in numbered if not self.path(p).is_file() and not self._blocked(p).is_file()
        ]

    def finish(self) -> tuple[int, int]:
        """Write prompts.jsonl for the pictures that are there. Returns (how many they are, how many were blocked)."""
        there = [prompt for prompt in self.prompts if self.path(prompt).is_file()]
        rows = [
            {"image": f"{prompt.id}.png", "prompt": prompt.text, "language": prompt.language}
            for prompt in there
        ]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomic(self.folder / FILE_NAME, text)
        return len(there), sum(self._blocked(prompt).is_file() for prompt in self.prompts)

    def _blocked(self, prompt: Prompt) -> Path:
        return self.folder / f"{prompt.id}.blocked"
