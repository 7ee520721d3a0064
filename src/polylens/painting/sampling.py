"""From noise to latents, by diffusers' schedulers; the images of a batch have seeds of their own.

Shapes: N images, C channels of latents h x w, T states of a prompt, D width of the context.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

from polylens.errors import UserError
from polylens.painting.bridge import Context

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
    noise: torch.Tensor,
    generators: Sequence[torch.Generator],
    schedule: dict[str, Any],
    settings: Sampling,
    advance: Callable[[int], None] = lambda evaluations: None,
) -> torch.Tensor:
    """Denoise (N, C, h, w) `noise` under `context` (N, T, D); or, with twice as many rows of it, (2N, T, D), under the
    latter half and away from the former, both in one batch.

    `predict(noisy, timesteps, context, mask)` gives what the schedule's
    `prediction_type` says. `advance` hears of every evaluation of the denoiser.
    """
    scheduler = SAMPLERS[settings.sampler].from_config(schedule)
    scheduler.set_timesteps(settings.steps, device=noise.device)
    states, mask = context
    guided = len(states) == 2 * len(noise)
    latents = noise * scheduler.init_noise_sigma
    extra = {"generator": list(generators)} if settings.sampler in ANCESTRAL else {}
    for timestep in scheduler.timesteps:
        entering = torch.cat([latents, latents]) if guided else latents
        entering = scheduler.scale_model_input(entering, timestep)
        output = predict(entering, timestep.expand(len(entering)), states, mask).float()
        if guided:
            away, towards = output.chunk(2)
            output = away + settings.guidance * (towards - away)
        latents = scheduler.step(output, timestep, latents, return_dict=False, **extra)[0]
        advance(1)
    return latents
