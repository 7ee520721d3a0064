"""A painter's recipe from YAML to a folder that draws."""

import io
import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console

pytest.importorskip("diffusers", reason="diffusers is not installed: the extra 'paint'")

from tests.models.tiny_models import save_language_model
from tests.painting.tiny_painters import UNET

from polylens.errors import UserError
from polylens.painting.folder import load_painter
from polylens.painting.sampling import Sampling
from polylens.recipe import load_recipe, packaged_recipes
from polylens.training.preview import show
from polylens.training.run import train

torch.set_num_threads(1)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYLENS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "data"
    data.mkdir()
    with (data / "captions.jsonl").open("w", encoding="utf-8") as file:
        for number, colour in enumerate(("red", "green", "blue", "white")):
            Image.new("RGB", (20, 30), colour).save(data / f"{number}.png")
            file.write(json.dumps({"image": f"{number}.png", "captions": {"en": [colour]}}) + "\n")
    save_language_model("llama", tmp_path / "llama")
    tree = {
        "name": "tiny",
        "painter": {
            "config": {"text": {"path": str(tmp_path / "llama")}, "denoiser": {"config": UNET}, "size": 16},
            "average": 0.9,
        },
        "data": {"source": "captions", "path": str(data)},
        "stages": [
            {"name": "bridge", "table": {"bridge.*": 1e-2}, "batch_size": 2, "steps": 2},
            {
                "name": "larger",
                "table": {"bridge.*": 1e-2, "denoiser.*attn2*": 1e-3},
                "batch_size": 2,
                "steps": 2,
                "size": 32,
            },
        ],
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_a_recipe_becomes_a_folder_that_draws(recipe: Path, tmp_path: Path) -> None:
    folder = train(recipe, out=tmp_path / "run")
    image = load_painter(folder).draw(["rot"], [0], Sampling(steps=1))[0]
    assert image.size == (16, 16)
    weights = (folder / "model.safetensors").read_bytes()
    assert train(recipe, out=tmp_path / "run") == folder  # finished: nothing is trained again
    assert (folder / "model.safetensors").read_bytes() == weights
    again = load_recipe(recipe, [f"painter={{start: {folder}}}", "seed=1"])
    assert load_painter(train(again, out=tmp_path / "on")).config.size == 16


def test_what_would_train_is_shown(recipe: Path) -> None:
    text = io.StringIO()
    show(load_recipe(recipe), Console(file=text, width=120), 2)
    assert "denoiser.*attn2*" in text.getvalue()
    assert "red  (" in text.getvalue()


def test_recipes_of_painters_are_checked(recipe: Path) -> None:
    with pytest.raises(UserError, match=r"unknown key 'painter.config.bridge.kindd'"):
        load_recipe(recipe, ["painter.config.bridge.kindd=linear"])
    with pytest.raises(UserError, match="either 'model' or 'painter'"):
        load_recipe(recipe, ["model.start=picto"])
    with pytest.raises(UserError, match="must hold"):
        load_recipe(recipe, ["painter.config.text.template=nothing"])
    scored = load_recipe(recipe, ["data.split=0.5", "validation.every=1", "validation.metrics=[chrf]"])
    with pytest.raises(UserError, match="validated by its loss"):
        train(scored, out=recipe.parent / "off")


@pytest.mark.parametrize("name", [name for name in packaged_recipes() if name.endswith("paint")])
def test_packaged_recipes_are_valid(name: str) -> None:
    found = load_recipe(name)
    assert found.painter is not None
    assert found.data.languages == ["en"]
