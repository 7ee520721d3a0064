"""Resamplers: kinds by name, and one from another package in a model, its checkpoint and back."""

from pathlib import Path

import pytest
import torch
from tests.models.tiny_models import sample, save_language_model, save_vision
from tests.plugins import install

from polylens.models.checkpoints.build import build_model
from polylens.models.checkpoints.folder import load_model, save_model
from polylens.models.config import ModelConfig, ResamplerConfig

SAMPLES = [sample("German:", "Katze", (0,))]
MEANS = """
import torch
from torch import nn
from polylens.models.parts.resamplers import Resampler

class Means(Resampler):
    '''The mean of the patches, mapped to every token.'''

    def __init__(self, patch_width, num_tokens, width):
        super().__init__()
        self.num_tokens, self.width = num_tokens, width
        self.map = nn.Linear(patch_width, num_tokens * width)

    @classmethod
    def new(cls, config, patch_width, num_patches, lm_width):
        return cls(patch_width, config.num_tokens, config.width)

    def forward(self, patches):
        return self.map(patches.mean(1)).unflatten(1, (self.num_tokens, self.width))
"""


def test_an_unknown_kind_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="no resampler 'qforme': the nearest is 'qformer'"):
        ResamplerConfig(kind="qforme")


def test_a_resampler_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        tmp_path,
        monkeypatch,
        "means_resampler",
        MEANS,
        "polylens.resamplers",
        "means = means_resampler:Means",
    )
    config = {
        "vision": {"path": str(save_vision("vit", tmp_path / "vision"))},
        "resampler": {"kind": "means", "num_tokens": 5, "width": 16},
        "language_model": {"path": str(save_language_model("llama", tmp_path / "lm"))},
    }
    model = build_model(ModelConfig.model_validate(config)).eval()
    assert model.num_image_tokens == 5
    loss = model.loss(model.collator()(SAMPLES))
    loss.backward()
    assert model.resampler.map.weight.grad.abs().sum() > 0
    save_model(model, tmp_path / "out")
    assert torch.equal(load_model(tmp_path / "out").loss(model.collator()(SAMPLES)), loss)
