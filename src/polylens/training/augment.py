"""Random views of pictures, each a pure function of the picture and the view's name."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from PIL.Image import Image, Resampling, Transpose, fromarray

from polylens.data.sample import Picture
from polylens.recipe import Augmentation
from polylens.training.randaugment import rand_augment
from polylens.training.style import restyle

# Bounds of a crop's width / height, and how often one that fits is looked for: those of torchvision's
# RandomResizedCrop, which the published models were trained with.
ASPECT = 4 / 3
TRIES = 10
# Changes whenever a view of the same name would have other pixels, so that no cache of older ones is read.
VERSION = 2


@dataclass(frozen=True)
class View:
    """One picture as a step sees it: view 0 is the picture itself, any other one of its random changes."""

    picture: Picture
    number: int
    mirror: bool = True

    @property
    def name(self) -> str:
        return f"{self.picture.key}#{self.number}"

    @property
    def key(self) -> str:
        """Names the pixels: a view that must not be mirrored is another than the one that may."""
        return self.name if self.mirror else f"{self.name}|upright"


def load_views(views: Iterable[View], settings: Augmentation, size: tuple[int, int]) -> list[Image]:
    """The images of the views, as `augment` makes them. A picture is read once for all its views in a row."""
    images: list[Image] = []
    seeds: dict[int, int] = {}
    for _, of_one in groupby(views, key=lambda view: view.picture.key):
        mine = list(of_one)
        picture = mine[0].picture.load()
        for view in mine:
            image = picture
            if view.number:
                image, seeds[len(images)] = _framed(picture, view.name, settings, size, view.mirror)
            images.append(image)
    if settings.style and seeds:
        styled = _in_other_styles([images[at] for at in seeds], list(seeds.values()))
        for at, image in zip(seeds, styled, strict=True):
            images[at] = image
    return images


def augment(
    image: Image, name: str, settings: Augmentation, size: tuple[int, int], mirror: bool = True
) -> Image:
    """A random crop scaled to `size` (width, height), mirrored or not, in its own style or another; `name` decides
    all that is random.

    With `mirror` false it is never mirrored, and all else is as it would be otherwise.
    """
    image, seed = _framed(image, name, settings, size, mirror)
    return _in_other_styles([image], [seed])[0] if settings.style else image


def _framed(
    image: Image, name: str, settings: Augmentation, size: tuple[int, int], mirror: bool
) -> tuple[Image, int]:
    """Cropped, mirrored and changed by RandAugment; and what the style is to be drawn from."""
    rng = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
    if settings.crop:
        # Cut first: resize with a box would let the pixels around it in.
        image = image.crop(_box(image.width, image.height, settings.crop, rng)).resize(
            size, Resampling.BICUBIC
        )
    if settings.flip and rng.random() < 0.5 and mirror:
        image = image.transpose(Transpose.FLIP_LEFT_RIGHT)
    if settings.randaugment:
        image = rand_augment(image, settings.randaugment, rng)
    if settings.style:
        image = image.resize(size, Resampling.BICUBIC)
    return image, int(rng.integers(1 << 63))


def _in_other_styles(images: Sequence[Image], seeds: Sequence[int]) -> list[Image]:
    """All at once: so small, each alone would cost three times as much."""
    arrays = [np.asarray(image, np.float32) for image in images]
    pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 255
    views = restyle(pixels, [torch.Generator().manual_seed(seed) for seed in seeds])
    return [fromarray(view) for view in (views * 255).round().byte().permute(0, 2, 3, 1).numpy()]


def _box(
    width: int, height: int, share: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a share of the area, of whole pixels; the middle where none fits."""
    for _ in range(TRIES):
        area = rng.uniform(*share) * width * height
        aspect = math.exp(rng.uniform(-math.log(ASPECT), math.log(ASPECT)))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            left, top = int(rng.integers(0, width - wide + 1)), int(rng.integers(0, height - high + 1))
            return left, top, left + wide, top + high
    wide, high = min(width, round(height * ASPECT)), min(height, round(width * ASPECT))
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high
