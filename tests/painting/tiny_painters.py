"""Tiny painters with random weights, for the tests of painting."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler
from tests.models.tiny_models import save_language_model

from polylens.painting.build import build_painter
from polylens.painting.config import PainterConfig
from polylens.painting.painter import Painter

UNET = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 1,
    "block_out_channels": [16, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
DIT = {
    "_class_name": "PixArtTransformer2DModel",
    "sample_size": 8,
    "in_channels": 3,
    "out_channels": 6,
    "num_layers": 1,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 16,
    "caption_channels": 24,
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "patch_size": 2,
}
VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
    "block_out_channels": [8, 16],
    "latent_channels": 4,
    "norm_num_groups": 4,
}

# The packaged decoder, which knows words.
PACKAGED_TEXT = {
    "path": "picto-parts/decoder",
    "template": "{prompt} English:",
    "answer": 2,
    "languages": ["en", "de"],
    "pivot": {"beams": 4},
}


def tiny_painter(folder: Path, lm: str = "llama", seed: int = 0, **config: Any) -> Painter:
    """In pixels of 16 x 16, over a language model saved in `folder`."""
    path = folder / lm
    if not path.is_dir():
        save_language_model(lm, path)
    settings: dict[str, Any] = {
        "text": {"path": str(path)},
        "denoiser": {"config": UNET},
        "size": 16,
    } | config
    settings["text"] = {"path": str(path)} | settings["text"]
    torch.manual_seed(seed)
    return build_painter(PainterConfig.model_validate(settings))


def save_stable_diffusion(folder: Path, unet: dict[str, Any] | None = None, **schedule: Any) -> Path:
    """A folder as Stable Diffusion's, with a UNet's config, an autoencoder and a scheduler."""
    torch.manual_seed(4)
    AutoencoderKL(**VAE).save_pretrained(folder / "vae")
    DDPMScheduler(**schedule).save_pretrained(folder / "scheduler")
    (folder / "unet").mkdir()
    (folder / "unet" / "config.json").write_text(
        json.dumps(UNET | {"in_channels": 4, "out_channels": 4} | (unet or {}))
    )
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    return folder
