"""RandAugment as VisCPM had it: two operations at most, drawn by the view's name."""

import numpy as np
import pytest
from PIL import Image

from polylens.recipe import Augmentation
from polylens.training.augment import augment
from polylens.training.randaugment import OPERATIONS, rand_augment


def noise(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8))


@pytest.mark.parametrize("number", range(len(OPERATIONS)))
def test_every_operation_keeps_size_and_mode(number: int) -> None:
    for sign in (-1.0, 1.0):
        changed = OPERATIONS[number](noise(), 0.7, sign)
        assert (changed.size, changed.mode) == ((60, 40), "RGB")
    assert (changed.tobytes() == noise().tobytes()) == (number == 0) or number in (1, 2)


def test_what_moves_goes_both_ways_and_grey_comes_in() -> None:
    shift = OPERATIONS[7]
    right, left = (np.asarray(shift(noise(), 0.7, sign)) for sign in (-1.0, 1.0))
    assert (right[:, :7] == 128).all()
    assert (left[:, -7:] == 128).all()
    assert (right[:, 7:] == np.asarray(noise())[:, :-7]).all()


def test_half_of_two_drawn_operations_are_applied() -> None:
    rng = np.random.default_rng(0)
    same = sum(rand_augment(noise(), 7, rng).tobytes() == noise().tobytes() for _ in range(400))
    # (1/2 + 1/20) squared: neither is applied, or is one that changes nothing; noise is equalised already.
    assert 100 < same < 190


def test_a_view_is_a_function_of_its_name() -> None:
    settings = Augmentation(randaugment=7, views="off")
    views = [augment(noise(), f"p#{number}", settings, (32, 32)).tobytes() for number in (1, 1, 2, 3, 4)]
    assert views[0] == views[1]
    assert len(set(views)) > 1
    with pytest.raises(ValueError, match="less than or equal to 10"):
        Augmentation(randaugment=11, views="off")
