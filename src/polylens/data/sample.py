"""The one record of the program: readers yield it, writers take it, reports group by its fields."""

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from PIL import Image


@runtime_checkable
class Picture(Protocol):
    """An image that is decoded only when somebody looks at it."""

    @property
    def key(self) -> str:
        """Names the content for caches: equal keys mean equal pixels, and a changed file gets a new key."""

    def load(self) -> Image.Image:
        """Decode to an upright RGB image. Raises `UserError` with the file's name when it cannot be read."""


def stored_at(picture: Picture) -> str:
    """Where a picture is stored, if it is and says so, else its key."""
    return str(getattr(picture, "name", None) or getattr(picture, "path", None) or picture.key)


@dataclass(frozen=True)
class Turn:
    """One question and its answer: the answer is trained on and scored, and not shown in generation."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Sample:
    """Images, the turns about them, and what reports are grouped by.

    `language` is the BCP 47 code of the answers, `source` the data set, `id` unique within its source.
    `extra` keeps whatever else the source said of this example.
    """

    id: str
    images: tuple[Picture, ...]
    turns: tuple[Turn, ...]
    language: str
    task: str
    source: str
    extra: dict[str, Any] = field(default_factory=dict)
