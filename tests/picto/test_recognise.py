import io

import matplotlib.cbook
import numpy as np
import pytest
from PIL import Image, ImageChops

from polylens.data.images import FilePicture
from polylens.picto.recognise import look
from polylens.picto.world import concepts

SIDE = 96


@pytest.fixture(scope="module")
def drawings():
    """Withheld drawings of the styles that are trained on, and some line drawings."""
    withheld = [c.picture(c.validation_style()).load() for c in concepts() if c.validation_style()]
    return withheld + [c.picture("openmoji-line").load() for c in concepts()[::40]]


def share_recognised(pictures):
    return np.mean([look(picture).is_pictogram for picture in pictures])


def test_drawings_are_recognised(drawings):
    assert share_recognised(drawings) >= 0.99


def test_also_where_they_fill_the_picture(drawings):
    def tight(picture):
        left, top, right, bottom = (
            ImageChops.invert(picture.convert("L")).point(lambda v: 255 * (v > 16)).getbbox()
        )
        side = max(right - left, bottom - top)
        square = Image.new("RGB", (side, side), "white")
        square.paste(
            picture.crop((left, top, right, bottom)), ((side - right + left) // 2, (side - bottom + top) // 2)
        )
        return square

    assert share_recognised([tight(picture) for picture in drawings]) >= 0.93


@pytest.mark.parametrize("side", [64, 256])
def test_at_other_sizes_as_jpeg_on_another_ground(drawings, side):
    def changed(picture):
        tinted = Image.fromarray((np.asarray(picture) * 0.8 + 20).astype(np.uint8))
        file = io.BytesIO()
        tinted.resize((side, side)).save(file, "JPEG", quality=80)
        return Image.open(file).convert("RGB")

    assert share_recognised([changed(picture) for picture in drawings[::3]]) >= 0.98


def natural(rng):
    """A picture with the spectrum of natural ones: amplitude falls with frequency, channels go together."""
    frequencies = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE)))
    frequencies[0, 0] = 1 / SIDE
    waves = [np.fft.fft2(rng.standard_normal((SIDE, SIDE))) / frequencies ** rng.uniform(0.9, 1.5)]
    waves += [waves[0] + np.fft.fft2(rng.standard_normal((SIDE, SIDE))) for _ in range(2)]
    channels = [np.fft.ifft2(wave).real for wave in waves]
    return np.stack([rng.uniform(80, 170) + 50 * c / c.std() for c in channels], -1)


def gradient(rng):
    first, last = rng.permutation([[250, 240, 90], [20, 60, 160]])
    y, x = np.mgrid[0 : 1 : SIDE * 1j, 0 : 1 : SIDE * 1j]
    share = ((x + rng.uniform(0.2, 1) * y) / 2)[..., None]
    return first * (1 - share) + last * share


@pytest.mark.parametrize("make", [natural, gradient, lambda rng: rng.integers(0, 256, (SIDE, SIDE, 3))])
def test_made_up_pictures_are_not(make):
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(make(rng).clip(0, 255).astype(np.uint8)) for _ in range(20)]
    assert share_recognised(pictures) == 0


def test_a_photograph_is_not():
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=True) as file:
        photo = FilePicture(file.name).load()
    width, height = photo.size
    # The lower corners are black through and through.
    parts = [photo.crop((x, y, x + 200, y + 200)) for x in (0, width - 200) for y in (0, height // 4)]
    assert share_recognised([photo, *parts]) == 0
