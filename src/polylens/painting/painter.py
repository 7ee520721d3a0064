"""Text to image: a language model's hidden states -> bridge -> a denoiser's cross-attention (MPM, arXiv 2308.12038).

Shapes: N images, H x W pixels, C channels of latents h x w, B prompts, T states of the longest, L width of the
language model, D width of the cross-attention.
"""

import logging
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import ModelMixin
from PIL import Image
from torch import nn

from polylens.errors import UserError
from polylens.models.parts.lora import apply_lora
from polylens.painting.bridge import Bridge, Context
from polylens.painting.config import PainterConfig
from polylens.painting.parts import Space
from polylens.painting.sampling import Sampling, sample, start_noise
from polylens.painting.text import TextEncoder

logger = logging.getLogger("polylens")

MAX_SIDE = 4096
REMEMBERED = 8  # negative prompts
CPP_COMPILERS = ("c++", "g++", "clang++")
Advance = Callable[[int], None]


def silent(count: int) -> None:
    """For callers that show no progress."""


class Painter(nn.Module):
    """Draws what a prompt says. The text encoder and the space (pixels or latents) never train."""

    adapted = "denoiser"

    def __init__(
        self,
        text: TextEncoder,
        bridge: Bridge,
        denoiser: ModelMixin,
        space: Space,
        schedule: dict[str, Any],
        config: PainterConfig,
    ) -> None:
        super().__init__()
        self.text = text
        self.bridge = bridge
        self.denoiser = denoiser
        self.space = space
        self.schedule = schedule
        self.config = config
        self.fingerprints: dict[str, dict[torch.dtype, tuple[int, int]]] = {}
        self._negatives: dict[str, torch.Tensor] = {}
        if denoiser.config["in_channels"] != space.channels:
            raise UserError(
                f"The denoiser reads {denoiser.config['in_channels']} channels, and the space has {space.channels}: "
                "choose parts that were made for each other."
            )

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.denoiser.parameters()).dtype

    def move(self, device: torch.device | str, *, text: bool = True) -> None:
        """Bring the painter to `device`; without `text`, its language model stays where it was loaded."""
        for part in (self.bridge, self.denoiser, self.space, *([self.text] if text else [])):
            part.to(device)

    def adapt(self, pattern: str, *, rank: int, alpha: float, dropout: float) -> None:
        """LoRA on the denoiser's linear layers; see `models/parts/lora.py`."""
        apply_lora(self, pattern, rank=rank, alpha=alpha, dropout=dropout)

    def context(self, rows: Sequence[torch.Tensor]) -> Context:
        """Rows of states (T, L) to the context (B, T, D) and its mask (B, T), None where all of it counts."""
        states, mask = self.text.batch(rows)
        weight = next(self.bridge.parameters())
        return self.bridge(states.to(weight.device, weight.dtype), mask)

    def predict(
        self,
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What the denoiser says of latents (N, C, h, w) at `timesteps` (N,), in the same shape."""
        extra: dict[str, Any] = {} if mask is None else {"encoder_attention_mask": mask}
        if getattr(self.denoiser, "use_additional_conditions", False):
            height, width = (side * self.space.factor for side in noisy.shape[-2:])
            sides = noisy.new_tensor([[height, width]]).expand(len(noisy), 2)
            extra["added_cond_kwargs"] = {"resolution": sides, "aspect_ratio": sides[:, :1] / sides[:, 1:]}
        output = self.denoiser(
            noisy.to(self.dtype),
            timestep=timesteps,
            encoder_hidden_states=context.to(self.dtype),
            return_dict=False,
            **extra,
        )[0]
        # Some denoisers give a variance too, which no sampler here uses.
        return output[:, : self.space.channels]

    @torch.no_grad()
    def prompt_states(self, prompts: Sequence[str], negative: str) -> tuple[list[torch.Tensor], torch.Tensor]:
        """States (T, L) of every prompt, and of the negative one, which is read once and remembered."""
        read = self._read_as(prompts)
        distinct = list(dict.fromkeys(read))
        states = dict(zip(distinct, self.text.encode(distinct), strict=True))
        if negative not in self._negatives:
            while len(self._negatives) >= REMEMBERED:
                self._negatives.pop(next(iter(self._negatives)))
            self._negatives[negative] = self.text.encode(self._read_as([negative]))[0]
        return [states[prompt] for prompt in read], self._negatives[negative]

    def _read_as(self, prompts: Sequence[str]) -> list[str]:
        limit = self.config.text.max_tokens
        read = self.text.read_as(prompts)
        for prompt in dict.fromkeys([*prompts, *read]):
            if (size := self.text.num_tokens(prompt)) > limit:
                logger.warning(
                    "The prompt has %d tokens, and only %d are read: the rest is cut out.", size, limit
                )
        return read

    @torch.no_grad()
    def latents(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        settings: Sampling,
        *,
        negative: str = "",
        size: tuple[int, int] | None = None,
        noise: torch.Tensor | None = None,
        advance: Advance = silent,
    ) -> torch.Tensor:
        """The final latents (N, C, h, w) of one batch, float32; one prompt and one seed for each image.

        `noise` to begin with is drawn by the seeds, unless it is given.
        """
        rows, away = self.prompt_states(prompts, negative)
        # Both branches of the guidance are padded together, so that they see the same number of states.
        guided = settings.guidance != 1
        context = self.context([*([away] * len(rows) if guided else []), *rows])
        width, height = self._drawn_size(size)
        shape = (self.space.channels, height // self.space.factor, width // self.space.factor)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        if noise is None:
            noise = start_noise(shape, generators)
        return sample(
            self.predict,
            context,
            noise.to(self.device),
            generators,
            self.schedule,
            settings,
            advance,
        )

    @torch.no_grad()
    def draw(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        settings: Sampling | None = None,
        *,
        negative: str = "",
        size: tuple[int, int] | None = None,
        advance: Advance = silent,
    ) -> list[Image.Image]:
        """One batch of images, (width, height) `size` or the painter's own; see `latents`.

        A size that the denoiser cannot draw is drawn larger, and the middle cut out. Raises `UserError` for a size
        that is out of range.
        """
        width, height = self.wanted_size(size)
        latents = self.latents(
            prompts, seeds, settings or Sampling(), negative=negative, size=size, advance=advance
        )
        pixels = self.space.decode(latents).float().clamp(-1, 1)
        top, left = (pixels.shape[2] - height) // 2, (pixels.shape[3] - width) // 2
        cut = pixels[:, :, top : top + height, left : left + width]
        arrays = ((cut + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(np.ascontiguousarray(array)) for array in arrays]

    def wanted_size(self, size: tuple[int, int] | None) -> tuple[int, int]:
        """(width, height) of the images. Raises `UserError` when it is out of range."""
        width, height = size or (self.config.size, self.config.size)
        if not (8 <= width <= MAX_SIDE and 8 <= height <= MAX_SIDE):
            raise UserError(
                f"The size {width}x{height} is out of range: each side must be from 8 to {MAX_SIDE}."
            )
        return width, height

    def _drawn_size(self, size: tuple[int, int] | None) -> tuple[int, int]:
        step = self.space.factor * int(self.denoiser.config.get("patch_size") or 1)
        width, height = (-(-side // step) * step for side in self.wanted_size(size))
        return width, height

    def speed_up(self, *, compiled: bool = False) -> None:
        """Lay the denoiser's weights out as its convolutions like them; with `compiled`, compile it.

        Raises `UserError` where that takes a compiler and there is none.
        """
        if any(isinstance(module, nn.Conv2d) for module in self.denoiser.modules()):
            self.denoiser.to(memory_format=torch.channels_last)
        if compiled:
            if self.device.type == "cpu" and not any(map(shutil.which, CPP_COMPILERS)):
                raise UserError(
                    f"To compile a denoiser for the CPU takes a C++ compiler, and none of {', '.join(CPP_COMPILERS)} "
                    "is on the path: install one, or draw and train without compiling."
                )
            self.denoiser.compile()
