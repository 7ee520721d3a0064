"""What every single item scored, beside the predictions: paired tests and best and worst answers are made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polylens.data.rows import json_lines
from polylens.errors import UserError
from polylens.files import json_text, write_atomic

FILE_NAME = "items.jsonl"


@dataclass(frozen=True)
class ScoredItem:
    """One item's values by measure; items of the same first picture are drawn together in resampling."""

    id: str
    language: str
    pictures: Sequence[str]
    scores: Mapping[str, float]

    @property
    def picture(self) -> str:
        """The first picture; an item without any stands for itself."""
        return self.pictures[0] if self.pictures else self.id


def write_items(folder: Path, items: Sequence[ScoredItem]) -> None:
    """Write `items.jsonl`, whole."""
    lines = [
        json_text(
            {
                "id": item.id,
                "language": item.language,
                "pictures": list(item.pictures),
                "scores": dict(item.scores),
            }
        )
        for item in items
    ]
    write_atomic(folder / FILE_NAME, "".join(line + "\n" for line in lines))


def read_items(folder: Path) -> list[ScoredItem]:
    """The items of a run. Raises `UserError` where there are none, and for two of one id."""
    path = folder / FILE_NAME
    if not path.exists():
        raise UserError(f"'{folder}' has no {FILE_NAME}: is it the folder of a finished evaluation?")
    items, lines = [], dict[str, int]()
    for number, row in json_lines(path):
        where = f"{path}, line {number}"
        missing = next((name for name in ("id", "language", "pictures", "scores") if name not in row), None)
        if missing is not None:
            raise UserError(f"{where} is no scored item: '{missing}' is missing.")
        first = lines.setdefault(row["id"], number)
        if first != number:
            raise UserError(f"{where}: the id '{row['id']}' is in line {first} too: evaluate again.")
        items.append(ScoredItem(row["id"], row["language"], row["pictures"], row["scores"]))
    return items
