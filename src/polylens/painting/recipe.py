"""The section `painter` of a recipe: a painter to train in the place of a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from polylens.painting.config import PainterConfig
from polylens.recipe import Recipe, TrainedSection

if TYPE_CHECKING:
    from rich.console import Console


class Painting(TrainedSection):
    """A painter to train, in the place of a `model`: a saved one to `start` from, or its parts in `config`.

    `caption_dropout` is the share of pictures learnt under the empty prompt, which guidance needs. `min_snr` is the
    gamma of min-SNR weighting (arXiv 2303.09556), `average` the decay of an exponential moving average of the weights,
    which is what is validated and kept. With `buckets`, pictures are cut to the nearest of several aspect ratios of
    one area instead of to a square. With `compiled`, the denoiser is compiled first: on a CPU that takes a C++
    compiler.
    """

    start: str | None = None
    config: PainterConfig = Field(default_factory=PainterConfig)
    caption_dropout: float = Field(0.1, ge=0, lt=1)
    min_snr: float | None = Field(None, gt=0)
    average: float | None = Field(None, gt=0, lt=1)
    buckets: bool = False
    compiled: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.start and self.config != PainterConfig():
            raise PydanticCustomError("start", "give either 'start' or 'config', not both")
        return self

    def train(self, recipe: Recipe, folder: Path, *, resume: bool, console: "Console") -> Path:
        from polylens.painting.train import train_painter

        return train_painter(recipe, self, folder, resume=resume, console=console)

    def trial(self, folder: Path) -> str:
        return f'paint {folder} "a red apple"'

    def show(self, recipe: Recipe, console: "Console", num: int) -> None:
        from polylens.painting.train import show_painter

        show_painter(recipe, self, console, num)
