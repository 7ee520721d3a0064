"""Views as the published models saw them."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.Image import Resampling, Transpose

from polylens.data.images import FilePicture
from polylens.recipe import Augmentation
from polylens.training.augment import View, _box, augment, load_views

PUBLISHED = Augmentation(crop=(0.5, 1.0), flip=True, views="off")


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@given(st.integers(1, 500), st.integers(1, 500), st.integers(0, 2**32))
def test_crops_lie_in_the_picture(width, height, seed):
    left, top, right, bottom = _box(width, height, (0.5, 1.0), np.random.default_rng(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_crops_have_the_share_and_the_shape_that_were_asked_for():
    rng = np.random.default_rng(0)
    boxes = [_box(640, 480, (0.5, 1.0), rng) for _ in range(2000)]
    sizes = np.array([(right - left, bottom - top) for left, top, right, bottom in boxes])
    shares = sizes.prod(axis=1) / (640 * 480)
    aspects = sizes[:, 0] / sizes[:, 1]
    assert shares.min() > 0.495
    assert shares.max() <= 1
    assert (aspects > 0.74).all()
    assert (aspects < 1.35).all()
    assert 0.6 < shares.mean() < 0.8
    assert aspects.min() < 0.8 < 1.3 < aspects.max()


def test_a_strip_that_no_crop_fits_gives_its_middle():
    assert _box(1000, 100, (0.9, 1.0), np.random.default_rng(0)) == (433, 0, 566, 100)


def test_a_view_is_a_bicubic_resize_of_its_crop():
    image = noise(60, 40)
    settings = Augmentation(crop=(0.5, 1.0), views="off")
    name = "x#1"
    view = augment(image, name, settings, (24, 24))
    rng = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
    box = _box(60, 40, (0.5, 1.0), rng)
    assert view.tobytes() == image.crop(box).resize((24, 24), Resampling.BICUBIC).tobytes()


def test_half_are_mirrored_and_none_that_must_not_be():
    image = noise(16, 16)
    settings = Augmentation(flip=True, views=2)
    mirrored = image.transpose(Transpose.FLIP_LEFT_RIGHT).tobytes()
    counts = Counter(augment(image, f"{i}", settings, (16, 16)).tobytes() == mirrored for i in range(200))
    assert 70 < counts[True] < 130
    assert all(
        augment(image, f"{i}", settings, (16, 16), mirror=False).tobytes() == image.tobytes()
        for i in range(50)
    )


def test_a_view_that_is_not_mirrored_has_the_same_crop():
    image = noise(40, 30)
    for i in range(20):
        free = augment(image, f"{i}", PUBLISHED, (20, 20))
        upright = augment(image, f"{i}", PUBLISHED, (20, 20), mirror=False)
        assert upright.tobytes() in (free.tobytes(), free.transpose(Transpose.FLIP_LEFT_RIGHT).tobytes())


def test_views_are_those_of_torchvision_in_their_spread():
    """The same distribution of shares and shapes, drawn by another generator."""
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms")
    torch.manual_seed(0)
    image = Image.new("RGB", (320, 240))
    theirs = np.array(
        [transforms.RandomResizedCrop.get_params(image, (0.5, 1.0), (3 / 4, 4 / 3)) for _ in range(4000)]
    )
    rng = np.random.default_rng(0)
    ours = np.array([_box(320, 240, (0.5, 1.0), rng) for _ in range(4000)])
    sizes = ours[:, 2:] - ours[:, :2]
    for one, other in (
        (theirs[:, 2] * theirs[:, 3], sizes.prod(axis=1)),
        (theirs[:, 3] / theirs[:, 2], sizes[:, 0] / sizes[:, 1]),
        (theirs[:, 1], ours[:, 0]),
        (theirs[:, 0], ours[:, 1]),
    ):
        assert np.quantile(one, (0.1, 0.5, 0.9)) == pytest.approx(
            np.quantile(other, (0.1, 0.5, 0.9)), rel=0.08, abs=2
        )


def test_another_style_is_decided_by_the_name_and_has_the_wanted_size():
    image = noise(60, 40)
    settings = Augmentation(style=True, views=4)
    views = [augment(image, f"x#{number}", settings, (24, 24)) for number in (1, 2, 1)]
    assert all(view.size == (24, 24) for view in views)
    assert views[0].tobytes() == views[2].tobytes() != views[1].tobytes()
    plain = image.resize((24, 24), Resampling.BICUBIC).tobytes()
    same = sum(augment(image, f"y#{n}", settings, (24, 24)).tobytes() == plain for n in range(200))
    assert 15 <= same <= 50  # about 15%


@pytest.mark.parametrize("settings", [PUBLISHED, Augmentation(flip=True, style=True, views=3)])
def test_views_made_together_are_those_made_one_by_one(settings, tmp_path):
    pictures = []
    for at in range(5):
        noise(30 + at, 20, at).save(tmp_path / f"{at}.png")
        pictures.append(FilePicture(tmp_path / f"{at}.png"))
    views = [View(picture, number, number != 2) for picture in pictures for number in range(4)]
    for view, image in zip(views, load_views(views, settings, (24, 24)), strict=True):
        picture = view.picture.load()
        alone = augment(picture, view.name, settings, (24, 24), view.mirror) if view.number else picture
        assert image.tobytes() == alone.tobytes()


def test_a_picture_is_read_once_for_its_views_in_a_row(tmp_path, monkeypatch):
    noise(30, 20).save(tmp_path / "a.png")
    read = []
    load = FilePicture.load
    monkeypatch.setattr(FilePicture, "load", lambda picture: read.append(picture) or load(picture))
    load_views([View(FilePicture(tmp_path / "a.png"), number) for number in range(3)], PUBLISHED, (24, 24))
    assert len(read) == 1
