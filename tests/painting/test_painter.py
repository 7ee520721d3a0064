"""Painters of every kind: prompts, sizes, samplers, guidance, folders, memory, checks, records."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers", reason="diffusers is not installed: the extra 'paint'")

from tests.models.tiny_models import LANGUAGE_MODELS
from tests.painting.tiny_painters import DIT, UNET, save_stable_diffusion, tiny_painter

from polylens.errors import UserError
from polylens.painting.config import PainterConfig
from polylens.painting.folder import load_painter, save_painter
from polylens.painting.painter import Painter
from polylens.painting.record import read_record, write_png
from polylens.painting.sampling import SAMPLERS, Sampling
from polylens.painting.studio import Studio, grid
from polylens.painting.text import LanguageModelText

torch.set_num_threads(1)
TWO = Sampling(steps=2, guidance=3.0)
RESAMPLER = {"kind": "resampler", "num_tokens": 3, "width": 16, "depth": 1, "num_heads": 2}


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Painter:
    return tiny_painter(tmp_path_factory.mktemp("painter"))


@pytest.mark.parametrize("lm", sorted(LANGUAGE_MODELS))
def test_any_language_model_reads_prompts(tmp_path: Path, lm: str) -> None:
    painter = tiny_painter(tmp_path, lm)
    alone = painter.text.encode(["a dog"])[0]
    together = painter.text.encode(["a dog", "a much longer prompt"])
    assert torch.allclose(alone, together[0], atol=1e-5)
    assert alone.shape == (painter.text.num_states("a dog"), painter.text.width)
    # Logits are never computed: the head is not even there.
    assert not any("lm_head" in name for name, _ in painter.text.named_parameters())


@pytest.mark.parametrize("lm", ["llama", "t5"])
def test_answers_give_as_many_states_as_asked_for(tmp_path: Path, lm: str) -> None:
    text = tiny_painter(tmp_path, lm, text={"template": "{prompt} English:", "answer": 3}).text
    assert isinstance(text, LanguageModelText)
    alone = text.encode(["a dog"])[0]
    together = text.encode(["a much longer prompt", "a dog"])[1]
    assert alone.shape == (text.num_states("a dog"), text.width) == (3, text.width)
    assert torch.allclose(alone, together, atol=1e-5)
    if lm == "llama":
        # What it writes first, it writes from its last state of the prompt.
        read = tiny_painter(tmp_path, lm, text={"template": "{prompt} English:"}).text.encode(["a dog"])[0]
        assert torch.allclose(alone[0], read[-1], atol=1e-5)
    # Let what it writes first end its answers.
    written = text.model.generate(torch.tensor([text._ids("a dog")]), max_new_tokens=3, do_sample=False)
    text.model.generation_config.eos_token_id = int(written[0, -3])
    ended = text.encode(["a dog"])[0]
    assert torch.allclose(ended, alone[:1].expand(3, -1), atol=1e-5)


@pytest.mark.parametrize("bridge", [{"kind": "linear"}, RESAMPLER], ids=["linear", "resampler"])
@pytest.mark.parametrize("denoiser", [UNET, DIT], ids=["unet", "dit"])
def test_prompts_of_other_lengths_change_nothing(tmp_path: Path, bridge: Any, denoiser: Any) -> None:
    painter = tiny_painter(tmp_path, bridge=bridge, denoiser={"config": denoiser})
    alone = painter.latents(["a dog"], [5], TWO)
    together = painter.latents(["a much longer prompt", "a dog"], [4, 5], TWO)
    assert torch.allclose(alone[0], together[1], atol=1e-4)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_samplers_are_repeatable_and_seeds_matter(painter: Painter, sampler: str) -> None:
    settings = Sampling(sampler=sampler, steps=3)
    first = painter.latents(["cat", "cat"], [1, 2], settings)
    assert torch.isfinite(first).all()
    assert torch.allclose(first[1:], painter.latents(["cat"], [2], settings), atol=1e-4)
    assert not torch.allclose(first[0], first[1])


def test_guidance_of_one_needs_one_evaluation(painter: Painter, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    predict = painter.predict

    def watch(noisy: torch.Tensor, *others: Any) -> torch.Tensor:
        sizes.append(len(noisy))
        return predict(noisy, *others)

    monkeypatch.setattr(painter, "predict", watch)
    painter.latents(["cat"], [0], Sampling(steps=2, guidance=1))
    painter.latents(["cat"], [0], Sampling(steps=2, guidance=2))
    assert sizes == [1, 1, 2, 2]


def test_guidance_is_the_formula(painter: Painter) -> None:
    """One DDIM step by hand from both branches' own evaluations."""
    from diffusers import DDIMScheduler

    noise = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(9))
    settings = Sampling(sampler="ddim", steps=1, guidance=4.0)
    found = painter.latents(["cat"], [0], settings, negative="dog", noise=noise)
    scheduler = DDIMScheduler.from_config(painter.schedule)
    scheduler.set_timesteps(1)
    timestep = scheduler.timesteps[0]
    (rows, away) = painter.prompt_states(["cat"], "dog")
    with torch.no_grad():
        cat, dog = (
            painter.predict(noise, timestep[None], *painter.context([row])) for row in (rows[0], away)
        )
        wanted = scheduler.step(dog + 4.0 * (cat - dog), timestep, noise).prev_sample
    assert torch.allclose(found, wanted, atol=1e-4)


def test_a_negative_prompt_is_read_once(painter: Painter, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    encode = painter.text.encode

    def watch(prompts: list[str], *others: Any) -> Any:
        read.extend(prompts)
        return encode(prompts, *others)

    monkeypatch.setattr(painter.text, "encode", watch)
    for seed in (1, 2):
        painter.latents(["cat"] * 2, [seed, seed + 1], TWO, negative="ugly")
    assert read == ["cat", "ugly", "cat"]


@pytest.mark.parametrize(
    "prompt", ["", " ", "x" * 10_000, "雪中的狗", "كلب في الثلج", "हिम में कुत्ता", "🐶\u200d🦺", "a\nb\0c"]
)
@pytest.mark.parametrize("lm", ["llama", "t5"])
def test_any_prompt_is_drawn(tmp_path_factory: pytest.TempPathFactory, prompt: str, lm: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "prompts"
    painter = tiny_painter(folder, lm, text={"max_tokens": 32})
    states = painter.text.encode([prompt])[0]
    assert 1 <= len(states) == painter.text.num_states(prompt) <= 32
    assert painter.draw([prompt], [0], TWO)[0].size == (16, 16)


def test_a_cut_prompt_is_reported_and_keeps_the_templates_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("polylens").propagate = True
    painter = tiny_painter(tmp_path, text={"template": "{prompt} English:", "answer": 2, "max_tokens": 20})
    assert len(painter.prompt_states(["x" * 100], "")[0][0]) == 2
    assert "109 tokens, and only 20 are read" in caplog.text
    assert painter.text._ids("x" * 100)[-8:] == painter.text._ids("y")[-8:]  # type: ignore[operator]


@pytest.mark.parametrize("size", [(8, 8), (17, 23), (40, 16)])
@pytest.mark.parametrize("space", ["pixels", "latents"])
def test_any_size_is_drawn(tmp_path: Path, size: tuple[int, int], space: str) -> None:
    config: dict[str, Any] = {}
    if space == "latents":
        base = save_stable_diffusion(tmp_path / "sd")
        config = {
            "denoiser": {"config": UNET | {"in_channels": 4, "out_channels": 4}},
            "space": {"path": str(base)},
        }
    assert tiny_painter(tmp_path, **config).draw(["cat"], [0], TWO, size=size)[0].size == size


def test_sizes_and_settings_out_of_range_are_refused(painter: Painter) -> None:
    with pytest.raises(UserError, match="0x16 is out of range"):
        painter.draw(["cat"], [0], TWO, size=(0, 16))
    with pytest.raises(UserError, match="no sampler 'euler'"):
        Sampling(sampler="euler")
    with pytest.raises(UserError, match="0 steps"):
        Sampling(steps=0)
    with pytest.raises(UserError, match="guidance"):
        Sampling(guidance=float("nan"))


def test_compiling_without_a_compiler_is_refused(painter: Painter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"takes a C\+\+ compiler"):
        painter.speed_up(compiled=True)


def test_folded_pixels_are_exact(tmp_path: Path) -> None:
    config = UNET | {"in_channels": 12, "out_channels": 12}
    painter = tiny_painter(tmp_path, denoiser={"config": config}, space={"patch": 2})
    pixels = torch.randn(2, 3, 16, 16)
    assert torch.equal(painter.space.decode(painter.space.encode(pixels)), pixels)


def test_a_saved_painter_is_the_same(tmp_path: Path) -> None:
    painter = tiny_painter(tmp_path, bridge=RESAMPLER)
    save_painter(painter, tmp_path / "saved", {"note": "x"})
    found = load_painter(tmp_path / "saved")
    assert torch.equal(found.latents(["cat"], [3], TWO), painter.latents(["cat"], [3], TWO))
    save_painter(found, tmp_path / "saved")  # over itself
    save_painter(found, tmp_path / "alone", standalone=True)
    (tmp_path / "alone").rename(tmp_path / "moved")
    (tmp_path / "llama").rename(tmp_path / "gone")
    assert torch.equal(
        load_painter(tmp_path / "moved").latents(["cat"], [3], TWO), painter.latents(["cat"], [3], TWO)
    )
    with pytest.raises(UserError, match=r"text part of .* is missing"):
        load_painter(tmp_path / "saved")


def test_of_a_denoiser_from_a_folder_only_what_changed_is_kept(tmp_path: Path) -> None:
    first = tiny_painter(tmp_path)
    first.denoiser.save_pretrained(tmp_path / "unet")
    painter = tiny_painter(tmp_path, denoiser={"path": str(tmp_path / "unet")})
    name = "conv_out.weight"
    with torch.no_grad():
        dict(painter.denoiser.named_parameters())[name].mul_(2)
    save_painter(painter, tmp_path / "saved")
    manifest = json.loads((tmp_path / "saved" / "painter.json").read_text())
    assert [n for n in manifest["tensors"] if n.startswith("denoiser.")] == [f"denoiser.{name}"]
    found = load_painter(tmp_path / "saved")
    assert torch.equal(found.latents(["cat"], [3], TWO), painter.latents(["cat"], [3], TWO))
    first.denoiser.requires_grad_(False)
    with torch.no_grad():
        next(first.denoiser.parameters()).add_(1)
    first.denoiser.save_pretrained(tmp_path / "unet")
    with pytest.raises(UserError, match=r"denoiser part of .* is not the one"):
        load_painter(tmp_path / "saved")


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="reads 4 channels, and the space has 3"):
        tiny_painter(tmp_path, denoiser={"config": UNET | {"in_channels": 4}})
    with pytest.raises(UserError, match="no model of diffusers"):
        tiny_painter(tmp_path, denoiser={"config": {"_class_name": "Nothing"}})
    with pytest.raises(UserError, match="no denoiser"):
        tiny_painter(tmp_path, denoiser={})
    extra = {"addition_embed_type": "text", "addition_embed_type_num_heads": 1, "encoder_hid_dim": 24}
    with pytest.raises(UserError, match="addition_embed_type"):
        tiny_painter(tmp_path, denoiser={"config": UNET | extra})
    with pytest.raises(ValueError, match="once"):
        PainterConfig.model_validate({"text": {"template": "no place"}})


def test_when_memory_runs_out_the_batch_that_fits_is_named(
    painter: Painter, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 3
    draw = painter.draw

    def small(prompts: list[str], *others: Any, **settings: Any) -> Any:
        if len(prompts) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return draw(prompts, *others, **settings)

    monkeypatch.setattr(painter, "draw", small)
    studio = Studio(painter, "tiny", settings=TWO, batch_size=8)
    with pytest.raises(UserError, match=r"8 images of 16x16 .* and 2 would fit: give --batch-size 2"):
        studio.paint("cat", 8, 0)
    limit = 0
    with pytest.raises(UserError, match="and so does one"):
        studio.paint("cat", 8, 0)


def test_an_image_is_drawn_again_from_its_own_record(painter: Painter, tmp_path: Path) -> None:
    studio = Studio(painter, "tiny", settings=Sampling(sampler="ddpm", steps=3), negative="dog", batch_size=2)
    painted = studio.paint("猫", 3, 11, size=(20, 24))
    assert [one.record.seed for one in painted if one.record] == [11, 12, 13]
    assert painted[1].image is not None
    assert painted[1].record is not None
    write_png(painted[1].image, painted[1].record, tmp_path / "a.png")
    record = read_record(tmp_path / "a.png")
    assert (record.prompt, record.size, record.seeds, record.index) == ("猫", (20, 24), [11, 12], 1)
    again = Studio(painter, "tiny", settings=studio.settings, negative=record.negative).again(record)
    assert again.tobytes() == painted[1].image.tobytes()
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match="does not say how it was drawn"):
        read_record(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="cannot be read"):
        read_record(tmp_path / "c.png")


def test_a_grid_leaves_blocked_images_empty() -> None:
    whole = grid([[Image.new("RGB", (8, 8)), None], [None, Image.new("RGB", (8, 8))]])
    assert whole.size == (28, 28)
    assert whole.getpixel((20, 8)) == (255, 255, 255)
    assert whole.getpixel((8, 8)) == (0, 0, 0)
