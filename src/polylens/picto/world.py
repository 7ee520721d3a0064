"""Reads Picto's packaged data: concepts, their names and keywords per language, their pictures per style."""

import json
import lzma
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from polylens.data.images import ArchivePicture

PACKAGED = Path(__file__).parent / "packaged"
TRAINING_STYLES = ("noto", "openmoji")
# Drawn by others still, for part of the concepts: the more styles are trained on, the less a new one surprises.
MORE_STYLES = ("fluent", "emojitwo", "blob", "fxemoji", "emojione", "streamline")
# No part has seen this style, but settings were chosen with its scores in sight.
DEVELOPMENT_STYLE = "twemoji"
# Nobody has looked at this one: it is measured once for each released model.
FINAL_STYLE = "symbola"
LINE_STYLE = "openmoji-line"
# What a packaged language has at least.
MIN_NAMES_PER_LANGUAGE = 1300
STYLES = (*TRAINING_STYLES, *MORE_STYLES, DEVELOPMENT_STYLE, FINAL_STYLE, LINE_STYLE)
LANGUAGES = tuple(
    "en de fr es pt ru uk pl tr fi hu el ar fa he hi bn ta th vi id zh ja ko sw am ka hy yo zu".split()
)


@dataclass(frozen=True)
class Concept:
    """One pictogram. `split` is 'train', 'heldout' (of image training), or 'validation-STYLE' (that style withheld)."""

    id: str
    emoji: str
    group: str
    subgroup: str
    scored: bool
    split: str
    more_styles: tuple[str, ...]

    def name(self, language: str) -> str | None:
        """The name people gave it in `language`, None where they gave none."""
        entry = annotations()[language].get(self.id)
        return entry[0] if entry else None

    def keywords(self, language: str) -> list[str]:
        entry = annotations()[language].get(self.id)
        return entry[1] if entry else []

    def picture(self, style: str) -> ArchivePicture:
        """The 64 x 64 drawing in one of `STYLES` that has it, see `drawn_in`."""
        return ArchivePicture(PACKAGED / f"{style}.zip", f"{self.id}.webp")

    def drawn_in(self, style: str) -> bool:
        """Whether that style has a drawing of it."""
        return self.id in _drawn_in(style)

    def trained_styles(self) -> tuple[str, ...]:
        """The styles in which image training may show this concept."""
        if self.split == "heldout":
            return ()
        styles = tuple(style for style in TRAINING_STYLES if self.split != f"validation-{style}")
        return styles + self.more_styles

    def validation_style(self) -> str | None:
        """The training style withheld from image training, None unless this is a validation concept."""
        return self.split.removeprefix("validation-") if self.split.startswith("validation-") else None


@cache
def _drawn_in(style: str) -> frozenset[str]:
    with zipfile.ZipFile(PACKAGED / f"{style}.zip") as archive:
        return frozenset(name.removesuffix(".webp") for name in archive.namelist())


@cache
def concepts() -> tuple[Concept, ...]:
    rows = json.loads((PACKAGED / "concepts.json").read_text(encoding="utf-8"))
    return tuple(Concept(**row | {"more_styles": tuple(row["more_styles"])}) for row in rows)


@cache
def annotations() -> dict[str, dict[str, tuple[str, list[str]]]]:
    """{language: {concept id: (name, keywords)}} for every packaged language."""
    text = lzma.decompress((PACKAGED / "annotations.json.xz").read_bytes()).decode()
    return json.loads(text)
