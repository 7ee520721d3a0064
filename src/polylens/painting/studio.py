"""Drawing as a whole: batches, seeds, candidates, checks, records.

prompt -- check --> seeds in batches --> painter --> image check --> the best of each image's candidates --> record
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import diffusers
import torch
from PIL import Image

from polylens.errors import UserError
from polylens.painting.guards import ChecksImages, PromptCheck, Reranker
from polylens.painting.painter import Advance, Painter, silent
from polylens.painting.record import Record
from polylens.painting.sampling import Sampling

MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Painted:
    """One image asked for. Without an `image`, `blocked` says why; `score` is the reranker's, if there is one."""

    record: Record | None
    image: Image.Image | None = None
    blocked: str | None = None
    score: float | None = None


@dataclass
class Studio:
    """A painter and what stands around it. `name` and `sha256` are what records call the painter, `precision` how it
    was loaded, if that is not its denoiser's type.
    """

    painter: Painter
    name: str
    sha256: str | None = None
    prompt_check: PromptCheck | None = None
    image_check: ChecksImages | None = None
    reranker: Reranker | None = None
    settings: Sampling = field(default_factory=Sampling)
    negative: str = ""
    batch_size: int = 4
    precision: str | None = None

    def paint(
        self,
        prompt: str,
        count: int,
        seed: int,
        *,
        candidates: int = 1,
        size: tuple[int, int] | None = None,
        advance: Advance = silent,
    ) -> list[Painted]:
        """`count` images of a prompt, each the best of `candidates` by the reranker; seeds count up from `seed`.

        `advance` hears of evaluations of the denoiser done. Raises `UserError` for numbers out of range, and when
        memory runs out.
        """
        if candidates > 1 and self.reranker is None:
            raise UserError(f"{candidates} candidates need a reranker to choose among them: give one.")
        if not 0 <= seed <= MAX_SEED - count * candidates:
            raise UserError(f"The seed is {seed}: it must be from 0 to {MAX_SEED} less the number of images.")
        width, height = self.painter.wanted_size(size)
        read_as = self.painter.text.read_as([prompt])[0]
        for text in dict.fromkeys([prompt, read_as]):
            if self.prompt_check is not None and (why := self.prompt_check.refused(text)):
                return [Painted(None, blocked=why)] * count
        drawn: list[Painted] = []
        seeds = list(range(seed, seed + count * candidates))
        for start in range(0, len(seeds), self.batch_size):
            batch = seeds[start : start + self.batch_size]
            images = self._draw(prompt, batch, (width, height), advance)
            refused = self.image_check.refused(images) if self.image_check else [None] * len(images)
            scores = self.reranker.scores(prompt, images) if self.reranker else [None] * len(images)
            for index, (image, why, score) in enumerate(zip(images, refused, scores, strict=True)):
                record = self._record(prompt, read_as, batch, index, (width, height))
                drawn.append(Painted(record, None if why else image, why, score))
        return [_best(drawn[start : start + candidates]) for start in range(0, len(drawn), candidates)]

    def again(self, record: Record, advance: Advance = silent) -> Image.Image:
        """The image of a record, drawn in the batch that it was drawn in."""
        return self._draw(record.prompt, record.seeds, record.size, advance)[record.index]

    def _draw(
        self, prompt: str, seeds: Sequence[int], size: tuple[int, int], advance: Advance
    ) -> list[Image.Image]:
        def draw(count: int, settings: Sampling, advance: Advance) -> list[Image.Image]:
            return self.painter.draw(
                [prompt] * count, seeds[:count], settings, negative=self.negative, size=size, advance=advance
            )

        try:
            return draw(len(seeds), self.settings, advance)
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
        _free()
        width, height = size
        one_step = Sampling(**self.settings.as_dict() | {"steps": 1})
        fits = len(seeds) // 2
        while fits:
            try:
                draw(fits, one_step, silent)
                break
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                _free()
                fits //= 2
        problem = f"{len(seeds)} images of {width}x{height} at once need more memory than there is"
        if not fits:
            raise UserError(f"{problem}, and so does one: ask for a smaller size, or bfloat16.")
        raise UserError(f"{problem}, and {fits} would fit: give --batch-size {fits}.")

    def _record(
        self, prompt: str, read_as: str, seeds: list[int], index: int, size: tuple[int, int]
    ) -> Record:
        return Record(
            model=self.name,
            model_sha256=self.sha256,
            prompt=prompt,
            read_as=None if read_as == prompt else read_as,
            negative=self.negative,
            size=size,
            precision=self.precision or str(self.painter.dtype).removeprefix("torch."),
            seeds=seeds,
            index=index,
            torch=torch.__version__,
            diffusers=diffusers.__version__,
            **self.settings.as_dict(),
        )


def _best(candidates: Sequence[Painted]) -> Painted:
    """The best that is not blocked; where all are, the first."""
    allowed = [one for one in candidates if one.image is not None]
    return max(allowed, key=lambda one: one.score or 0.0, default=candidates[0])


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _free() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def grid(rows: Sequence[Sequence[Image.Image | None]], gap: int = 4) -> Image.Image:
    """All images in one, row by row on white; None is left empty. At least one must be there."""
    shown = [image for row in rows for image in row if image is not None]
    width, height = max(i.width for i in shown), max(i.height for i in shown)
    columns = max(len(row) for row in rows)
    whole = Image.new(
        "RGB", (columns * (width + gap) + gap, len(rows) * (height + gap) + gap), (255, 255, 255)
    )
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            if image is not None:
                whole.paste(image, (gap + x * (width + gap), gap + y * (height + gap)))
    return whole
