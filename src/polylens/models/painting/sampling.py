"""From noise to latents, by diffusers' schedulers; the images of a batch have seeds of their own.

Shapes: N images, C channels of latents h x w, T states of a prompt, D width of the context.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

from polylens.errors import UserError
from polylens.models.painting.bridge import Context

SAMPLERS = {
    "ddpm": DDPMScheduler,
    "ddim": DDIMScheduler,
    "dpm++": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
}
# Random at every step, not at the first only.
ANCESTRAL = ("ddpm",)
Predict = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How pictures are drawn. VisCPM-Paint's own: ddpm, 50 steps, guidance 7.5; guidance 1 is none."""

    sampler: str = "dpm++"
    steps: int = 20
    guidance: float = 7.5

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise UserError(f"There is no sampler '{self.sampler}': choose from {', '.join(SAMPLERS)}.")
        if not 1 <= self.steps <= 1000:
            raise UserError(f"{self.steps} steps are asked for: it must be from 1 to 1000.")
        if not 0 <= self.guidance <= 100:
            raise UserError(f"The guidance is {self.guidance:g}: it must be from 0 to 100; 1 is none.")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def start_noise(shape: Sequence[int], generators: Sequence[torch.Generator]) -> torch.Tensor:
    """(N, *shape) normal noise, row by row from its own generator, always drawn on the CPU."""
    return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])


@torch.no_grad()
def sample(
    predict: Predict,
    context: Context,
    negative: Context | None,
    noise: torch.Tensor,
    generators: Sequence[torch.Generator],
    schedule: dict[str, Any],
    settings: Sampling,
    advance: Callable[[int], None] = lambda evaluations: None,
) -> torch.Tensor:
    """Denoise (N, C, h, w) `noise` under `context` (N, T, D), away from `negative` (N, T, D) if it is given.

    Both go through the denoiser in one batch. `predict(noisy, timesteps, context, mask)` gives what the schedule's
    `prediction_type` says. `advance` hears of every evaluation of the denoiser.
    """
    scheduler = SAMPLERS[settings.sampler].from_config(schedule)
    scheduler.set_timesteps(settings.steps, device=noise.device)
    states, mask = context if negative is None else _join(negative, context)
    latents = noise * scheduler.init_noise_sigma
    extra = {"generator": list(generators)} if settings.sampler in ANCESTRAL else {}
    for timestep in scheduler.timesteps:
        entering = latents if negative is None else torch.cat([latents, latents])
        entering = scheduler.scale_model_input(entering, timestep)
        output = predict(entering, timestep.expand(len(entering)), states, mask).float()
        if negative is not None:
            away, towards = output.chunk(2)
            output = away + settings.guidance * (towards - away)
        latents = scheduler.step(output, timestep, latents, return_dict=False, **extra)[0]
        advance(1)
    return latents


def _join(negative: Context, context: Context) -> Context:
    """Both as one batch, the negative first."""
    masks = (negative[1], context[1])
    states = torch.cat([negative[0], context[0]])
    if masks[0] is None and masks[1] is None:
        return states, None
    return states, torch.cat(
        [
            m if m is not None else s[..., 0].new_ones(s.shape[:2], dtype=torch.bool)
            for m, s in zip(masks, (negative[0], context[0]), strict=True)
        ]
    )
