"""Tells pictograms from photographs: a pictogram stands on a plain ground and is drawn in flat colours.

    share of the border in one colour     drawings 0.90 to 1, a photograph 0 to 0.7
    share of equal neighbouring pixels    drawings 0.31 to 1, a photograph 0.1 to 0.7, noise 0

Drawings: Noto and OpenMoji; small JPEGs lose some of both. A thing photographed on a plain ground passes.
Distances of the encoder's features do not tell: it has learnt to overlook how a thing is drawn, and sees a
photograph as near to the drawings it knows as it sees a drawing that is new to it.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 64
SAME_GROUND = 16  # of 255, in any channel: what JPEG adds to a plain ground
SAME_COLOUR = 3
MIN_PLAIN_BORDER = 0.8
MIN_FLAT = 0.2


@dataclass(frozen=True)
class Look:
    """Two shares, 0-1: of the border in one colour, and of neighbouring pixels that are equal."""

    plain_border: float
    flat: float

    @property
    def is_pictogram(self) -> bool:
        return self.plain_border >= MIN_PLAIN_BORDER and self.flat >= MIN_FLAT


def look(picture: Image.Image) -> Look:
    """Measured on the RGB picture squeezed to 64 x 64 pixels, as Picto's encoder sees it."""
    small = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pixels_HWC = np.asarray(small).astype(int)
    border = np.concatenate([pixels_HWC[0], pixels_HWC[-1], pixels_HWC[1:-1, 0], pixels_HWC[1:-1, -1]])
    plain = np.abs(border - np.median(border, axis=0)).max(-1) <= SAME_GROUND
    steps = [np.abs(np.diff(pixels_HWC, axis=axis)).max(-1).ravel() for axis in (0, 1)]
    return Look(float(plain.mean()), float((np.concatenate(steps) <= SAME_COLOUR).mean()))
