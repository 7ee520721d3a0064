"""RandAugment (arXiv 1909.13719) with the operations that VisCPM was trained with: no colours are exchanged.

Two operations of ten are drawn, with repeats, and each is applied to every second picture.
"""

from collections.abc import Callable

import numpy as np
from PIL import ImageEnhance, ImageOps
from PIL.Image import Image, Resampling, Transform

DRAWN = 2
LIKELY = 0.5
STRONGEST = 10
GREY = (128, 128, 128)  # what comes in from outside the picture
SHEAR, SHIFT, TURN = 0.3, 10.0, 30.0  # at the full strength: a ratio, pixels, degrees


def rand_augment(image: Image, strength: int, rng: np.random.Generator) -> Image:
    """The picture after at most two operations of a strength from 1 to 10, all drawn from `rng`."""
    share = strength / STRONGEST
    for number in rng.integers(len(OPERATIONS), size=DRAWN):
        apply, sign = rng.random() < LIKELY, rng.choice((-1.0, 1.0))
        if apply:
            image = OPERATIONS[number](image, share, sign)
    return image


def _enhanced(kind: Callable[[Image], ImageEnhance._Enhance]) -> "Operation":
    return lambda image, share, _: kind(image).enhance(0.1 + 1.8 * share)


def _moved(x: float = 0.0, y: float = 0.0, lean_x: float = 0.0, lean_y: float = 0.0) -> "Operation":
    def move(image: Image, share: float, sign: float) -> Image:
        by = share * sign
        data = (1, lean_x * by, x * by, lean_y * by, 1, y * by)
        return image.transform(image.size, Transform.AFFINE, data, Resampling.BILINEAR, fillcolor=GREY)

    return move


Operation = Callable[[Image, float, float], Image]
OPERATIONS: tuple[Operation, ...] = (
    lambda image, *_: image,
    lambda image, *_: ImageOps.autocontrast(image),
    lambda image, *_: ImageOps.equalize(image),
    _enhanced(ImageEnhance.Brightness),
    _enhanced(ImageEnhance.Sharpness),
    _moved(lean_x=SHEAR),
    _moved(lean_y=SHEAR),
    _moved(x=SHIFT),
    _moved(y=SHIFT),
    lambda image, share, sign: image.rotate(TURN * share * sign, Resampling.BILINEAR, fillcolor=GREY),
)
