"""Random views of a picture, each a pure function of the picture and the view's name."""

import hashlib
import math

import numpy as np
from PIL.Image import Image, Resampling, Transpose

from polylens.recipe import Augmentation

ASPECT = 4 / 3


def augment(image: Image, name: str, settings: Augmentation) -> Image:
    """A random crop scaled back to the image's size, mirrored or not; `name` decides all that is random."""
    rng = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
    if settings.crop:
        area = rng.uniform(*settings.crop)
        aspect = math.exp(rng.uniform(-math.log(ASPECT), math.log(ASPECT)))
        width = min(1.0, math.sqrt(area * aspect)) * image.width
        height = min(1.0, math.sqrt(area / aspect)) * image.height
        left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
        box = (left, top, left + width, top + height)
        image = image.resize(image.size, Resampling.BICUBIC, box)
    if settings.flip and rng.random() < 0.5:
        image = image.transpose(Transpose.FLIP_LEFT_RIGHT)
    return image
