"""Image features of a folder: pooled and of each token, in every format, gone on with after a stop."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.tiny_models import NoisePicture, tiny_vlm
from tests.viscpm.tiny import tiny_chat
from typer.testing import CliRunner

from polylens.cli import app
from polylens.errors import UserError
from polylens.models.checkpoints.folder import save_model
from polylens.models.features import find_pictures, image_features, read_features, write_features
from polylens.models.vlm import VisionLanguageModel

ORIGIN = {"model": "tiny"}


@pytest.fixture(scope="module")
def model() -> VisionLanguageModel:
    return tiny_vlm()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(7):
        path = tmp_path / "pictures" / ("below" if number % 2 else "") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        NoisePicture(number).load().save(path)
    return tmp_path / "pictures"


@pytest.mark.parametrize("format", ["npz", "safetensors", "parquet"])
@pytest.mark.parametrize("pooled", [True, False])
def test_every_format_holds_what_the_model_sees(
    model: VisionLanguageModel, folder: Path, tmp_path: Path, format: str, pooled: bool
) -> None:
    if format == "parquet":
        pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    pictures = find_pictures(folder)
    settings = {"format": format, "pooled": pooled, "per_file": 3, "batch_size": 2}
    write_features(model, ORIGIN, pictures, tmp_path / "out", **settings)  # type: ignore[arg-type]
    names, features = read_features(tmp_path / "out")
    assert names == sorted(names) == list(pictures)
    wanted = image_features(model, list(pictures.values()), "encoder", pooled)
    assert features.shape == tuple(wanted.shape)
    assert np.allclose(features, wanted.numpy(), atol=1e-5)
    assert len(list((tmp_path / "out").glob(f"features-*.{format}"))) == 3


def test_tokens_are_what_the_language_model_reads(model: VisionLanguageModel, folder: Path) -> None:
    pictures = list(find_pictures(folder).values())[:2]
    tokens = image_features(model, pictures, "tokens", False)
    assert torch.equal(tokens[0], model.encode_pictures(pictures)[pictures[0].key])
    assert torch.allclose(image_features(model, pictures, "tokens", True), tokens.mean(1))
    chat = tiny_chat()
    assert image_features(chat, pictures, "tokens", True).ndim == 2
    with pytest.raises(UserError, match="take the level 'tokens'"):
        image_features(chat, pictures, "encoder", True)


def test_a_run_that_was_stopped_goes_on(model: VisionLanguageModel, folder: Path, tmp_path: Path) -> None:
    pictures, out = find_pictures(folder), tmp_path / "out"
    done: list[int] = []

    def stop(count: int) -> None:
        done.append(count)
        if sum(done) >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_features(model, ORIGIN, pictures, out, per_file=2, batch_size=1, advance=stop)
    first = (out / "features-00000.npz").stat().st_mtime_ns
    write_features(model, ORIGIN, pictures, out, per_file=2, batch_size=1)
    assert (out / "features-00000.npz").stat().st_mtime_ns == first
    whole = write_features(model, ORIGIN, pictures, tmp_path / "whole", per_file=2)
    assert whole["left_out"] == {}
    assert np.allclose(read_features(out)[1], read_features(tmp_path / "whole")[1], atol=1e-5)
    with pytest.raises(UserError, match=r"holds features of other settings \(pooled"):
        write_features(model, ORIGIN, pictures, out, per_file=2, pooled=False)
    NoisePicture(9).load().save(folder / "9.png")
    with pytest.raises(UserError, match="other settings"):
        write_features(model, ORIGIN, find_pictures(folder), out, per_file=2)


def test_the_command_names_what_it_leaves_out(
    model: VisionLanguageModel, folder: Path, tmp_path: Path
) -> None:
    save_model(model, tmp_path / "model")
    (folder / "broken.jpg").write_bytes(b"no picture")
    command = ["features", str(tmp_path / "model"), str(folder), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "--skip-unreadable" in result.output
    result = CliRunner().invoke(app, [*command, "--skip-unreadable"])
    assert result.exit_code == 0, result.output
    assert "features of 7 pictures" in result.output.replace("\n", " ")
    manifest = json.loads((tmp_path / "out" / "features.json").read_text())
    assert list(manifest["left_out"]) == ["broken.jpg"]
    assert len(manifest["model_sha256"]) == 64
    for missing, message in (
        (tmp_path / "none", "There is no folder"),
        (tmp_path / "model", "holds no pictures"),
    ):
        with pytest.raises(UserError, match=message):
            find_pictures(missing)
