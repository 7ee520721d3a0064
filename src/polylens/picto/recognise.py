"""Tells pictograms from photographs: a pictogram stands on a plain ground and is drawn in flat colours.

    corners in one colour                 drawings 4, cropped to their edges 3 or 4, a photograph 2 or fewer
    share of equal neighbouring pixels    drawings 0.36 to 1, a photograph 0.1 to 0.9, noise 0

Of the drawings withheld from training all pass, of the same without a margin 96%, and of 34 photographs with their
quarters and middles 10%: things on a plain ground, and the night. Small JPEGs lose some of both.

Distances of the encoder's features do not tell: it has learnt to overlook how a thing is drawn, and sees a
photograph as near to the drawings it knows as it sees a drawing that is new to it.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from polylens.models.limits import Limits

SIDE = 64
CORNER = 2  # pixels
SAME_GROUND = 16  # of 255, in any channel: what JPEG adds to a plain ground
SAME_COLOUR = 3
MIN_CORNERS = 3
MIN_FLAT = 0.2
# Probability of a whole name. Of 200 drawings in Twemoji's style, named in English, German, Chinese and Swahili, right
# names are below it in fewer than one case of ten, wrong ones in two of five; so is every second cut-out photograph,
# all of which look like pictograms (2026-12-01).
SURE = 0.3


@dataclass(frozen=True)
class Look:
    """How many of the four corners are in one colour, and the share (0-1) of neighbouring pixels that are equal."""

    corners: int
    flat: float

    @property
    def is_pictogram(self) -> bool:
        return self.corners >= MIN_CORNERS and self.flat >= MIN_FLAT


def look(picture: Image.Image) -> Look:
    """Measured on the RGB picture squeezed to 64 x 64 pixels, as Picto's encoder sees it."""
    small = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pixels_HWC = np.asarray(small).astype(int)
    ends = (slice(CORNER), slice(-CORNER, None))
    corners = [pixels_HWC[rows, columns].reshape(-1, 3) for rows in ends for columns in ends]
    grounds = [np.median(corner, axis=0) for corner in corners]
    alike = [sum(np.abs(corner - ground).max() <= SAME_GROUND for corner in corners) for ground in grounds]
    steps = [np.abs(np.diff(pixels_HWC, axis=axis)).max(-1).ravel() for axis in (0, 1)]
    return Look(int(max(alike)), float((np.concatenate(steps) <= SAME_COLOUR).mean()))


LIMITS = Limits(
    knows="pictograms such as emoji, and nothing else; for photographs give another model.",
    kind="a pictogram",
    flag="looks_like_pictogram",
    fits=lambda picture: look(picture).is_pictogram,
    sure=SURE,
)
