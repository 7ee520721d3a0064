"""The section `painter` of a recipe: a painter to train in the place of a model."""

from pathlib import Path
from typing import TYPE_CHECKING

from polylens.painting.config import PaintingSettings
from polylens.recipe import Recipe, TrainedSection

if TYPE_CHECKING:
    from rich.console import Console


class Painting(PaintingSettings, TrainedSection):
    """A painter to train, in the place of a `model`; `PaintingSettings` has the keys."""

    def train(self, recipe: Recipe, folder: Path, *, resume: bool, console: "Console") -> Path:
        from polylens.painting.train import train_painter

        return train_painter(recipe, self, folder, resume=resume, console=console)

    def trial(self, folder: Path) -> str:
        return f'paint {folder} "a red apple"'

    def show(self, recipe: Recipe, console: "Console", num: int) -> None:
        from polylens.painting.train import show_painter

        show_painter(recipe, self, console, num)
