"""Building a model from folders, and what is said when a part is missing."""

from pathlib import Path

import pytest
import torch
from tests.models.tiny_models import LANGUAGE_MODELS, VISION, sample, save_language_model, save_vision
from transformers import AutoModelForSeq2SeqLM

from polylens.errors import UserError
from polylens.models.checkpoints.build import build_model, load_language_model, load_vision
from polylens.models.checkpoints.registry import resolve_model
from polylens.models.config import ModelConfig, VisionConfig


@pytest.mark.parametrize("lm", ["llama", "mt5"])
def test_parts_are_named_by_path(lm: str, tmp_path: Path) -> None:
    config = ModelConfig.model_validate(
        {
            "vision": {"path": str(save_vision("vit", tmp_path / "vision")), "layer": "penultimate"},
            "resampler": {"kind": "perceiver", "num_tokens": 4, "width": 16, "depth": 1, "num_heads": 2},
            "language_model": {"path": str(save_language_model(lm, tmp_path / "lm"))},
            "layout": {"answer_prefix": " "},
        }
    )
    model = build_model(config).eval()
    assert model.is_encoder_decoder == LANGUAGE_MODELS[lm].is_encoder_decoder
    assert model.num_image_tokens == 4
    assert torch.isfinite(model.loss(model.collator()([sample("German:", "Katze")])))
    assert len(model.generate([sample("German:")], max_new_tokens=3)) == 1


@pytest.mark.parametrize("name", VISION)
@pytest.mark.parametrize("layer", ["last", "penultimate"])
def test_every_encoder_loads_from_its_folder(name: str, layer: str, tmp_path: Path) -> None:
    folder = save_vision(name, tmp_path / "vision")
    tower = load_vision(VisionConfig(path=str(folder), layer=layer)).eval()
    states = tower(torch.randn(2, 3, 32, 32))
    assert states.shape == (2, tower.num_patches(32, 32), tower.width)
    if layer == "last":
        kind, _ = VISION[name]
        own = kind.from_pretrained(folder).eval()
        pixels = torch.randn(1, 3, 32, 32)
        expected = own(pixel_values=pixels).last_hidden_state
        if expected.ndim == 4:
            expected = expected.flatten(2).transpose(1, 2)
        torch.testing.assert_close(tower(pixels), expected)


def test_class_tokens_can_be_dropped(tmp_path: Path) -> None:
    folder = save_vision("vit", tmp_path / "vision")
    with_class = load_vision(VisionConfig(path=str(folder))).eval()
    without = load_vision(VisionConfig(path=str(folder), class_token=False)).eval()
    pixels = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(without(pixels), with_class(pixels)[:, 1:])


def test_an_untied_head_stays_apart(tmp_path: Path) -> None:
    folder = save_language_model("mt5", tmp_path / "lm")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.save_pretrained(folder)
    loaded, _ = load_language_model(str(folder))
    loaded.tie_weights()
    torch.testing.assert_close(loaded.lm_head.weight, model.lm_head.weight)
    assert not torch.equal(loaded.lm_head.weight, loaded.get_input_embeddings().weight)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"vision\.path"):
        build_model(ModelConfig())
    with pytest.raises(UserError, match="nowhere"):
        resolve_model(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no packaged model"):
        resolve_model("no-such-name")
    lm = save_language_model("llama", tmp_path / "lm")
    with pytest.raises(UserError, match="no vision model"):
        load_vision(VisionConfig(path=str(lm)))
    vision = save_vision("vit", tmp_path / "vision")
    with pytest.raises(UserError, match="No language model"):
        load_language_model(str(vision))
