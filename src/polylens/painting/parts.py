"""The parts that diffusers brings: denoisers, autoencoders, schedules. Loaded from folders as it saves them."""

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDPMScheduler, ModelMixin
from torch import nn
from torch.nn import functional as F

from polylens.errors import UserError
from polylens.models.checkpoints.registry import resolve_model
from polylens.painting.config import DenoiserConfig, SpaceConfig
from polylens.pretrained import load_whole

PIPELINE = "model_index.json"
DENOISERS = ("unet", "transformer")
AUTOENCODERS = ("vae",)
SCHEDULERS = ("scheduler",)


def part_folder(path: str, names: tuple[str, ...], config: str = "config.json") -> Path:
    """The folder of one part: `path` itself, or the sub-folder of that name in a pipeline's folder.

    Raises `UserError` when it is not there.
    """
    folder = resolve_model(path)
    if (folder / PIPELINE).is_file():
        found = next((folder / name for name in names if (folder / name / config).is_file()), None)
        if found is None:
            raise UserError(f"The pipeline '{path}' has no {' and no '.join(names)}: give another folder.")
        return found
    if not (folder / config).is_file():
        raise UserError(f"'{path}' has no {config}: is it a folder that diffusers saved?")
    return folder


def load_denoiser(config: DenoiserConfig, dtype: torch.dtype = torch.float32) -> ModelMixin:
    """The denoiser of a folder, or a new one with random weights.

    Raises `UserError` for what is no denoiser with cross-attention to text.
    """
    if config.path is not None:
        folder = part_folder(config.path, DENOISERS)
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = _kind(settings, config.path)
        try:
            model = load_whole(kind, folder, torch_dtype=dtype)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"No denoiser can be loaded from '{config.path}': {error}") from error
    elif config.config is not None:
        kind = _kind(config.config, "denoiser.config")
        settings = {key: value for key, value in config.config.items() if key != "_class_name"}
        try:
            # diffusers' own `to` warns at any type, even of a model that has it already.
            model = nn.Module.to(kind.from_config(settings), dtype)
        except (ValueError, TypeError) as error:
            raise UserError(f"The denoiser.config is off: {error}") from error
    else:
        raise UserError("The painter has no denoiser: set denoiser.path to a folder, or denoiser.config.")
    context_width(model)
    return model


def _kind(settings: dict[str, Any], name: str) -> type[ModelMixin]:
    kind = getattr(diffusers, str(settings.get("_class_name")), None)
    if not (isinstance(kind, type) and issubclass(kind, ModelMixin)):
        raise UserError(f"'{name}' names no model of diffusers as its _class_name: see '{PIPELINE}'.")
    return kind


def context_width(denoiser: ModelMixin) -> int:
    """C, the width of what its cross-attention reads. Raises `UserError` for denoisers that need more than that."""
    config = denoiser.config
    width = (
        config.get("caption_channels") or config.get("encoder_hid_dim") or config.get("cross_attention_dim")
    )
    name = type(denoiser).__name__
    if not isinstance(width, int):
        raise UserError(f"{name} has no cross-attention of one width: choose another denoiser.")
    for key in ("addition_embed_type", "pooled_projection_dim", "class_embed_type"):
        if config.get(key):
            raise UserError(
                f"{name} also needs what {key} '{config[key]}' gives, which a language model's states are not: "
                "choose a denoiser that reads text by cross-attention alone."
            )
    return width


class Pixels(nn.Module):
    """Diffusion in pixels, folded `patch` x `patch` into channels: exact both ways, and nothing to load."""

    def __init__(self, patch: int = 1) -> None:
        super().__init__()
        self.factor = patch
        self.channels = 3 * patch**2

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) in [-1, 1] to (N, 3 * patch^2, H / patch, W / patch)."""
        return F.pixel_unshuffle(pixels, self.factor)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Back to (N, 3, H, W)."""
        return F.pixel_shuffle(latents, self.factor)


class Latents(nn.Module):
    """Diffusion in an autoencoder's latents, scaled and shifted as its config says; means, not samples of them."""

    def __init__(self, autoencoder: ModelMixin) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        config = autoencoder.config
        self.channels = int(config["latent_channels"])
        self.factor = 2 ** (len(config["block_out_channels"]) - 1)
        self.scale = float(config.get("scaling_factor") or 1.0)
        self.shift = float(config.get("shift_factor") or 0.0)
        # One picture after the other: at large sizes decoding takes more memory than denoising.
        autoencoder.enable_slicing()

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) in [-1, 1] to (N, channels, H / factor, W / factor)."""
        latents = self.autoencoder.encode(pixels.to(self.autoencoder.dtype)).latent_dist.mode()
        return (latents - self.shift) * self.scale

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Back to (N, 3, H, W)."""
        wanted = latents / self.scale + self.shift
        return self.autoencoder.decode(wanted.to(self.autoencoder.dtype), return_dict=False)[0]


Space = Pixels | Latents


def load_space(config: SpaceConfig, dtype: torch.dtype = torch.float32) -> Space:
    """Pixels, or the latents of the autoencoder in a folder. Raises `UserError` when there is none."""
    if config.path is None:
        return Pixels(config.patch)
    folder = part_folder(config.path, AUTOENCODERS)
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    try:
        model = load_whole(_kind(settings, config.path), folder, torch_dtype=dtype)
        return Latents(model)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"No autoencoder can be loaded from '{config.path}': {error!r}") from error


def load_schedule(schedule: dict[str, Any] | str) -> dict[str, Any]:
    """The settings of a schedule: those given, or of the scheduler in a Stable Diffusion folder."""
    if isinstance(schedule, dict):
        return dict(schedule)
    folder = part_folder(schedule, SCHEDULERS, "scheduler_config.json")
    settings: dict[str, Any] = dict(DDPMScheduler.load_config(folder))
    return {key: value for key, value in settings.items() if not key.startswith("_")}
