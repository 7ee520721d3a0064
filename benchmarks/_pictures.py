"""Pictures that need no files."""

from dataclasses import dataclass

import torch
from PIL import Image

SIDE = 224


@dataclass(frozen=True)
class Noise:
    """A few random patches of colour, computed anew each time, as a file is decoded."""

    seed: int

    @property
    def key(self) -> str:
        return f"noise-{self.seed}"

    def load(self) -> Image.Image:
        noise = torch.randint(0, 256, (3, 3, 3), generator=torch.Generator().manual_seed(self.seed))
        return Image.fromarray(noise.to(torch.uint8).numpy()).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
