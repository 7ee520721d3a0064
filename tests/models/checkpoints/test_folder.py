"""Checkpoint folders: the round trip, what they hold of frozen parts, and the errors for wrong parts."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.models.tiny_models import RESAMPLERS, sample, save_language_model, save_vision, tiny_vlm

from polylens.errors import UserError
from polylens.models.checkpoints.build import build_model
from polylens.models.checkpoints.folder import load_model, read_provenance, save_model
from polylens.models.config import ModelConfig
from polylens.models.parts.lora import apply_lora, merge_lora
from polylens.models.vlm import VisionLanguageModel

SAMPLES = [sample("German:", "Katze", (0,)), sample("Both?", "Hunde", (1, 2))]
CANDIDATES = [["Katze", "Hund"], ["a", "bc"]]


def built(folder: Path, lm: str = "llama", resampler: str = "qformer") -> VisionLanguageModel:
    return build_model(
        ModelConfig.model_validate(
            {
                "vision": {"path": str(save_vision("vit", folder / "vision"))},
                "resampler": RESAMPLERS[resampler].model_dump(),
                "language_model": {"path": str(save_language_model(lm, folder / "lm"))},
                "layout": {"answer_prefix": " "},
            }
        )
    ).eval()


@pytest.mark.parametrize("lm", ["llama", "t5"])
@pytest.mark.parametrize("resampler", RESAMPLERS)
@pytest.mark.parametrize("standalone", [False, True])
def test_round_trip(lm: str, resampler: str, standalone: bool, tmp_path: Path) -> None:
    model = built(tmp_path, lm, resampler)
    expected = model.score(SAMPLES, CANDIDATES)
    save_model(model, tmp_path / "out", {"steps": 3}, standalone=standalone)
    # Beside its parts, a checkpoint can be moved with them.
    moved = (tmp_path / "out" if standalone else tmp_path).rename(tmp_path.parent / f"{tmp_path.name}-moved")
    loaded = load_model(moved if standalone else moved / "out")
    assert loaded.score(SAMPLES, CANDIDATES) == expected
    assert loaded.config.layout == model.config.layout
    assert read_provenance(moved if standalone else moved / "out") == {"steps": 3}


def test_parts_given_in_memory_are_written_along(tmp_path: Path) -> None:
    model = tiny_vlm("mt5")
    save_model(model, tmp_path / "out")
    assert load_model(tmp_path / "out").score(SAMPLES, CANDIDATES) == model.score(SAMPLES, CANDIDATES)


@torch.no_grad()
def test_only_what_has_changed_of_a_part_is_written(tmp_path: Path) -> None:
    model = built(tmp_path)
    save_model(model, tmp_path / "out")
    names = set(load_file(tmp_path / "out" / "model.safetensors"))
    assert not any(name.startswith(("vision.", "language_model.")) for name in names)
    weight = model.lm.model.layers[0].mlp.up_proj.weight
    weight.add_(0.1)
    model.vision.requires_grad_(False)
    model.vision.model.layernorm.bias.add_(1.0)
    expected = model.score(SAMPLES, CANDIDATES)
    save_model(model, tmp_path / "out")
    more = set(load_file(tmp_path / "out" / "model.safetensors")) - names
    assert more == {"language_model.model.layers.0.mlp.up_proj.weight", "vision.layernorm.bias"}
    loaded = load_model(tmp_path / "out")
    assert loaded.score(SAMPLES, CANDIDATES) == expected
    save_model(loaded, tmp_path / "again")
    assert load_model(tmp_path / "again").score(SAMPLES, CANDIDATES) == expected


@torch.no_grad()
def test_frozen_weights_in_bfloat16_are_not_written(tmp_path: Path) -> None:
    model = built(tmp_path)
    for parameter in model.lm.parameters():
        parameter.data = parameter.data.bfloat16()
    save_model(model, tmp_path / "out")
    names = load_file(tmp_path / "out" / "model.safetensors")
    assert not any(name.startswith("language_model.") for name in names)


@pytest.mark.parametrize("lm", ["llama", "gpt2", "t5"])
@torch.no_grad()
def test_adapters_are_saved_as_peft_does_and_merge(lm: str, tmp_path: Path) -> None:
    model = built(tmp_path, lm)
    plain = model.score(SAMPLES, CANDIDATES)
    apply_lora(model, "language_model.*", rank=2, alpha=4, dropout=0.0)
    apply_lora(model, "language_model.*", rank=2, alpha=4, dropout=0.0)
    assert model.score(SAMPLES, CANDIDATES) == plain
    adapters = [p for n, p in model.named_parameters() if "lora_" in n]
    assert adapters
    assert all(p.requires_grad for p in adapters)
    for parameter in adapters:
        parameter.normal_(std=0.3)
    expected = model.score(SAMPLES, CANDIDATES)
    assert expected != plain
    save_model(model, tmp_path / "out")
    assert (tmp_path / "out" / "adapter" / "adapter_config.json").is_file()
    loaded = load_model(tmp_path / "out")
    assert loaded.score(SAMPLES, CANDIDATES) == expected
    merge_lora(loaded)
    for found, wanted in zip(loaded.score(SAMPLES, CANDIDATES), expected, strict=True):
        assert found == pytest.approx(wanted, rel=1e-4)
    with pytest.raises(UserError, match="carries LoRA adapters"):
        apply_lora(model, "language_model.*", rank=4)
    with pytest.raises(UserError, match="matches no linear layer"):
        apply_lora(model, "vision.*")


def test_wrong_and_missing_parts_are_named(tmp_path: Path) -> None:
    save_model(built(tmp_path), tmp_path / "out")
    config = tmp_path / "lm" / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(UserError, match=r"language_model part .*sha256"):
        load_model(tmp_path / "out")
    (tmp_path / "vision").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"vision part .* is missing: \.\./vision"):
        load_model(tmp_path / "out")


def test_damage_is_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    save_model(built(tmp_path), out)
    weights = (out / "model.safetensors").read_bytes()
    (out / "model.safetensors").write_bytes(weights[:-10])
    with pytest.raises(UserError, match=r"model\.safetensors' are missing or damaged"):
        load_model(out)
    (out / "model.safetensors").write_bytes(weights)
    manifest = json.loads((out / "polylens.json").read_text())
    (out / "polylens.json").write_text(
        json.dumps(manifest | {"tensors": [*manifest["tensors"], "resampler.x"]})
    )
    with pytest.raises(UserError, match=r"resampler\.x"):
        load_model(out)
    (out / "polylens.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        load_model(out)
    with pytest.raises(UserError, match="neither a checkpoint"):
        load_model(tmp_path / "lm")


def test_other_folders_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("...")
    with pytest.raises(UserError, match="holds something else"):
        save_model(tiny_vlm(), tmp_path / "mine")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
