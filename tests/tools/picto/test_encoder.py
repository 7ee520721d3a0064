"""The image encoder's training: views that vary what styles differ in, and a run that ends in a usable folder."""

import torch
from tools.picto.augment import augment
from tools.picto.encoder import EncoderTraining, _may_flip, on_white, rgba, train_encoder

from polylens.models.checkpoints.build import load_vision
from polylens.models.config import VisionConfig
from polylens.picto.world import concepts


def drawings(count: int = 6) -> torch.Tensor:
    return torch.stack([rgba(concept, "noto") for concept in concepts()[:count]])


def test_views_are_rgb_in_range_and_decided_by_the_generator() -> None:
    pictures = drawings()
    flips = torch.ones(len(pictures), dtype=torch.bool)
    first, again, other = (
        augment(pictures, flips, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert first.shape == (6, 3, 64, 64)
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_transparent_pixels_become_white() -> None:
    empty = torch.zeros(1, 4, 8, 8)
    assert torch.equal(on_white(empty), torch.ones(1, 3, 8, 8))


def test_what_tells_left_from_right_is_never_mirrored() -> None:
    by_name = {concept.name("en"): concept for concept in concepts()}
    assert not _may_flip(by_name["left arrow"])
    assert not _may_flip(by_name["leftwards hand"])
    assert _may_flip(by_name["cat"])


def test_a_short_training_ends_in_an_encoder_that_loads(tmp_path) -> None:
    model = train_encoder(EncoderTraining(steps=2, batch_size=8), tmp_path / "run", report=lambda line: None)
    model.save_pretrained(tmp_path / "vision")
    tower = load_vision(VisionConfig(path=str(tmp_path / "vision")))
    assert tower(torch.zeros(2, 3, 64, 64)).shape == (2, 16, 256)
    assert (tmp_path / "run" / "log.jsonl").read_text().count("\n") == 1
