"""VisCPM-Paint against what the original computed, for every folder under `$POLYLENS_GOLDEN/viscpm`."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.painting.tiny_painters import save_stable_diffusion
from typer.testing import CliRunner

from polylens.cli import app
from polylens.errors import UserError
from polylens.models.parts.precision import is_quantized
from polylens.painting.folder import load_painter, save_painter
from polylens.painting.painter import Painter
from polylens.painting.sampling import Sampling
from polylens.painting.viscpm import read_released_painter

pytestmark = pytest.mark.golden
GOLDEN = Path(os.environ.get("POLYLENS_GOLDEN") or Path(__file__).parents[3] / "shared" / "golden") / "viscpm"
FOLDERS = sorted(path.parent for path in GOLDEN.glob("*/vlg.safetensors"))


@pytest.fixture(params=FOLDERS or [None], ids=lambda folder: folder.name if folder else "none")
def folder(request: pytest.FixtureRequest) -> Path:
    if request.param is None:
        if "POLYLENS_GOLDEN" in os.environ:
            pytest.fail(f"POLYLENS_GOLDEN is set, and {GOLDEN} holds no VisCPM-Paint")
        pytest.skip(f"{GOLDEN} is absent")
    return request.param


def released(folder: Path, out: Path) -> Painter:
    """One file as it was released, made of the golden folder's two, and a Stable Diffusion folder beside it."""
    config = json.loads((folder / "cases.json").read_text())["config"]
    schedule = {k: v for k, v in config["scheduler"].items() if k != "num_inference_steps"}
    base = save_stable_diffusion(out / "sd", config["unet"], **schedule)
    language_model = {k: v for k, v in load_file(folder / "vlu.safetensors").items() if k.startswith("llm.")}
    save_file(load_file(folder / "vlg.safetensors") | language_model, out / "paint.safetensors")
    sizes = out / "sizes.json"
    sizes.write_text(json.dumps(config))
    return read_released_painter(out / "paint.safetensors", str(base), folder / "vocab.txt", sizes=sizes)


def assert_near(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def drawn(painter: Painter, config: dict, noise: torch.Tensor) -> torch.Tensor:
    paint = config["paint"]
    settings = Sampling(
        sampler="ddpm", steps=config["scheduler"]["num_inference_steps"], guidance=paint["guidance_scale"]
    )
    return painter.latents(
        [paint["prompt"]],
        [paint["generator_seed"]],
        settings,
        negative=paint["negative_prompt"],
        noise=noise,
    )


def test_states_context_and_latents_are_the_originals(folder: Path, tmp_path: Path) -> None:
    wanted = load_file(folder / "tensors.safetensors")
    config = json.loads((folder / "cases.json").read_text())["config"]
    painter = released(folder, tmp_path)
    rows, away = painter.prompt_states([config["paint"]["prompt"]], config["paint"]["negative_prompt"])
    states, mask = painter.text.batch([away, *rows])
    assert mask is None
    assert_near(states[1:], wanted["paint.hidden"])
    assert_near(states[:1], wanted["paint.uncond_hidden"])
    with torch.no_grad():
        context, _ = painter.context([away, *rows])
    assert_near(context, wanted["paint.context"])
    assert_near(drawn(painter, config, wanted["paint.latents0"]), wanted["paint.latents"])


def test_a_saved_painter_draws_the_same(folder: Path, tmp_path: Path) -> None:
    wanted = load_file(folder / "tensors.safetensors")
    config = json.loads((folder / "cases.json").read_text())["config"]
    save_painter(released(folder, tmp_path), tmp_path / "saved")
    found = drawn(load_painter(tmp_path / "saved"), config, wanted["paint.latents0"])
    assert_near(found, wanted["paint.latents"])


def test_the_command_draws_from_the_released_file(folder: Path, tmp_path: Path) -> None:
    released(folder, tmp_path)
    files = ["--base", tmp_path / "sd", "--vocab", folder / "vocab.txt", "--sizes", tmp_path / "sizes.json"]
    arguments = [
        tmp_path / "paint.safetensors",
        "a cat 猫",
        *files,
        "--out",
        tmp_path / "out",
        "--steps",
        "2",
    ]
    result = CliRunner().invoke(app, ["paint", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "01_00000000.png").is_file()
    result = CliRunner().invoke(app, ["paint", str(tmp_path / "paint.safetensors"), "cat"])
    assert result.exit_code == 2
    assert "give --base and --vocab" in " ".join(result.output.split())


def test_files_that_do_not_fit_are_named(folder: Path, tmp_path: Path) -> None:
    released(folder, tmp_path)
    config = json.loads((folder / "cases.json").read_text())["config"]
    wide = save_stable_diffusion(tmp_path / "wide", config["unet"] | {"block_out_channels": [16, 64]})
    with pytest.raises(UserError, match="does not fit: 'unet"):
        read_released_painter(
            tmp_path / "paint.safetensors", str(wide), folder / "vocab.txt", sizes=tmp_path / "sizes.json"
        )


def test_convert_makes_a_folder_that_draws_and_streams(folder: Path, tmp_path: Path) -> None:
    painter = released(folder, tmp_path)
    config = json.loads((folder / "cases.json").read_text())["config"]
    given = ["convert", tmp_path / "paint.safetensors", "--vocab", folder / "vocab.txt"]
    given += ["--sizes", tmp_path / "sizes.json", "--precision", "float32", "--out", tmp_path / "made"]
    result = CliRunner().invoke(app, [*map(str, given)])
    assert result.exit_code == 2
    assert "is VisCPM-Paint: give --base" in " ".join(result.stderr.split())
    result = CliRunner().invoke(app, [*map(str, given), "--base", str(tmp_path / "sd")])
    assert result.exit_code == 0, result.output
    noise = torch.randn(1, painter.space.channels, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = drawn(painter, config, noise)
    assert torch.equal(drawn(load_painter(tmp_path / "made"), config, noise), expected)
    streamed = load_painter(tmp_path / "made", stream="disk")
    streamed.move("cpu", text=False)
    assert_near(drawn(streamed, config, noise), expected)
    prompt = ["paint", tmp_path / "made", "cat", "--steps", 1, "--stream", "disk", "--out", tmp_path / "out"]
    result = CliRunner().invoke(app, [*map(str, prompt)])
    assert result.exit_code == 0, result.output


def test_the_language_model_of_a_painter_in_few_bits(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    save_painter(released(folder, tmp_path), tmp_path / "made")
    painter = load_painter(tmp_path / "made", torch.bfloat16, "int8")
    assert is_quantized(painter.text)
    assert not is_quantized(painter.denoiser)
    (states,) = painter.text.encode(["cat"])
    (plain,) = load_painter(tmp_path / "made").text.encode(["cat"])
    assert torch.nn.functional.cosine_similarity(states.float(), plain, dim=-1).min() > 0.9
