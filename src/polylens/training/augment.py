"""Random views of a picture, each a pure function of the picture and the view's name."""

import hashlib
import math

import numpy as np
import torch
from PIL.Image import Image, Resampling, Transpose, fromarray

from polylens.recipe import Augmentation
from polylens.training.style import restyle

# Bounds of a crop's width / height, and how often one that fits is looked for: those of torchvision's
# RandomResizedCrop, which the published models were trained with.
ASPECT = 4 / 3
TRIES = 10
# Changes whenever a view of the same name would have other pixels, so that no cache of older ones is read.
VERSION = 2


def augment(
    image: Image, name: str, settings: Augmentation, size: tuple[int, int], mirror: bool = True
) -> Image:
    """A random crop scaled to `size` (width, height), mirrored or not, in its own style or another; `name` decides
    all that is random.

    With `mirror` false it is never mirrored, and all else is as it would be otherwise.
    """
    rng = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
    if settings.crop:
        # Cut first: resize with a box would let the pixels around it in.
        image = image.crop(_box(image.width, image.height, settings.crop, rng)).resize(
            size, Resampling.BICUBIC
        )
    if settings.flip and rng.random() < 0.5 and mirror:
        image = image.transpose(Transpose.FLIP_LEFT_RIGHT)
    if settings.style:
        image = _in_another_style(image.resize(size, Resampling.BICUBIC), int(rng.integers(1 << 63)))
    return image


def _in_another_style(image: Image, seed: int) -> Image:
    pixels = torch.from_numpy(np.asarray(image, np.float32)).permute(2, 0, 1)[None] / 255
    view = restyle(pixels, torch.Generator().manual_seed(seed))[0]
    return fromarray((view * 255).round().byte().permute(1, 2, 0).numpy())


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
