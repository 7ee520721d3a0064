"""The painter's demo: what is measured, on real pictures and on noise."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

pytest.importorskip("diffusers", reason="diffusers is not installed: the extra 'paint'")

from tests.painting.tiny_painters import PACKAGED_TEXT, UNET

from polylens.painting.build import build_painter
from polylens.painting.config import PainterConfig
from polylens.painting.folder import load_painter, save_painter
from polylens.painting.sampling import Sampling
from polylens.picto import paint_demo
from polylens.picto.paint_measure import Judge, even, measure
from polylens.picto.tasks import pictures
from polylens.picto.world import DEVELOPMENT_STYLE, concepts
from polylens.recipe import load_recipe

torch.set_num_threads(1)
WANTED = list(even([c for c in concepts() if c.scored and c.trained_styles()], 10))


def test_real_pictures_are_found_and_noise_is_not() -> None:
    judge = Judge.packaged(WANTED)
    real = [concept.picture(DEVELOPMENT_STYLE).load() for concept in WANTED]
    noise = [Image.effect_noise((32, 32), 60 + place).convert("RGB") for place in range(len(WANTED))]
    found = measure(judge, WANTED, {"en": real, "de": noise}, noise)
    assert found["judge_on_real_pictures"]["value"] >= 0.7
    assert found["languages"]["en"]["retrieval"]["value"] == found["judge_on_real_pictures"]["value"]
    assert found["languages"]["en"]["fd_picto"] == pytest.approx(0, abs=1e-3)
    assert found["languages"]["de"]["fd_picto"] > 1
    assert found["controls"]["empty_prompt"]["value"] <= 0.2
    assert found["languages"]["de"]["pivot_ratio"] <= 0.3


def test_training_sees_english_and_neither_the_test_style_nor_held_out_concepts() -> None:
    recipe = load_recipe("picto-paint")
    assert recipe.data.languages == ["en"]
    assert recipe.data.split == "train"
    drawn = pictures("train")
    assert all(style != DEVELOPMENT_STYLE and concept.split != "heldout" for concept, style in drawn)


def test_the_demo_writes_a_grid_and_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    painter = build_painter(
        PainterConfig.model_validate({"text": PACKAGED_TEXT, "denoiser": {"config": UNET}, "size": 16})
    )
    save_painter(painter, tmp_path / "painter")
    results = paint_demo.run_paint_demo(
        tmp_path / "out",
        Console(quiet=True),
        painter=str(tmp_path / "painter"),
        num_concepts=4,
        settings=Sampling(steps=1),
    )
    assert list(results["languages"]) == ["en", "de"]
    assert results["languages"]["en"]["read_as_english_name"] >= 0.75
    assert results["zero_shot"]["n"] == 1
    assert json.loads((tmp_path / "out" / "results.json").read_text())["settings"]["concepts"] == 4
    with Image.open(tmp_path / "out" / "grid.png") as whole:
        assert whole.width > 2 * 32


def test_the_packaged_painter_draws_what_it_is_told_in_any_language() -> None:
    painter = load_painter(paint_demo.PAINTER)
    one, again, other = painter.draw(["dog face", "Hundegesicht", "red heart"], [1, 1, 1], Sampling(steps=4))
    assert one.size == (32, 32)

    def distance(first: Image.Image, second: Image.Image) -> float:
        return float(np.abs(np.asarray(first, float) - np.asarray(second, float)).mean())

    assert distance(one, again) < distance(one, other)
    assert painter.text.read_as(["Hundegesicht", ""]) == ["dog face", ""]
