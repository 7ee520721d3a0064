"""`polylens paint` and `polylens demo --paint` end to end, on tiny painters."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers", reason="diffusers is not installed: the extra 'paint'")

from tests.painting.tiny_painters import PACKAGED_TEXT, tiny_painter
from typer.testing import CliRunner

from polylens.cli import app
from polylens.painting.folder import save_painter

torch.set_num_threads(1)
FAST = ["--steps", "2", "--batch-size", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("paint")
    save_painter(tiny_painter(root), root / "model")
    return root / "model"


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["paint", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["paint", *map(str, arguments)])
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def test_images_a_grid_and_each_image_again(folder: Path, tmp_path: Path) -> None:
    printed = run(
        folder, "ein Hund im Schnee", "猫", "--n", "3", "--seed", "1", "--out", tmp_path, "--json", *FAST
    )
    rows = json.loads(printed)
    assert [row["seed"] for row in rows] == [1, 2, 3, 1, 2, 3]
    assert all(row["blocked"] is None for row in rows)
    names = [f"{number:02d}_{seed:08d}.png" for number in (1, 2) for seed in (1, 2, 3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "grid.png"])
    for name in names[1:3]:
        run("--from", tmp_path / name, "--out", tmp_path / "again")
        with Image.open(tmp_path / name) as first, Image.open(tmp_path / "again" / name) as second:
            assert first.tobytes() == second.tobytes()
            assert first.info == second.info


def test_it_says_what_a_prompt_was_read_as(tmp_path: Path) -> None:
    save_painter(tiny_painter(tmp_path, text=PACKAGED_TEXT), tmp_path / "model")
    out = ["--out", tmp_path / "out", *FAST]
    assert "'Katze' was read as 'cat'" in " ".join(run(tmp_path / "model", "cat", "Katze", *out).split())
    rows = json.loads(run(tmp_path / "model", "Katze", "--json", *out))
    assert [(row["prompt"], row["read_as"]) for row in rows] == [("Katze", "cat")]


def test_what_is_off_ends_with_a_sentence(folder: Path, tmp_path: Path) -> None:
    assert "Give a painter and a prompt" in refused(folder)
    assert "must look like 512x768" in refused(folder, "cat", "--size", "big")
    assert "no sampler 'euler'" in refused(folder, "cat", "--sampler", "euler")
    assert "need a reranker" in refused(folder, "cat", "--candidates", "2", "--out", tmp_path)
    assert "has no painter.json" in refused(folder.parent / "llama", "cat")
    assert "leave the prompt out" in refused(folder, "cat", "--from", write_plain(tmp_path))


def write_plain(folder: Path) -> Path:
    run_folder = folder / "drawn"
    path = run_folder / "01_00000000.png"
    if not path.is_file():
        from polylens.painting.record import Record, write_png

        record = Record(
            model="m",
            model_sha256=None,
            prompt="",
            negative="",
            sampler="ddim",
            steps=1,
            guidance=1.0,
            size=(8, 8),
            precision="float32",
            seeds=[0],
            index=0,
        )
        write_png(Image.new("RGB", (8, 8)), record, path)
    return path


def test_another_painter_is_no_way_back(folder: Path, tmp_path: Path) -> None:
    run(folder, "cat", "--out", tmp_path, *FAST)
    other = tiny_painter(folder.parent, seed=7)
    save_painter(other, tmp_path / "other")
    found = refused(tmp_path / "other", "--from", tmp_path / "01_00000000.png")
    assert "is not the painter that drew the image" in found
