"""The next token of every row: the likeliest one, or one drawn with the row's own random numbers.

Shapes: R rows, K vocabulary.
"""

from collections.abc import Sequence

import torch

from polylens.models.decoding.vocabulary import argmax
from polylens.serving.jobs import Settings


class Drawing:
    """How one answer's tokens are chosen. Equal seeds and logits give equal tokens, whatever else runs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.random = torch.Generator().manual_seed(settings.seed)

    @property
    def is_greedy(self) -> bool:
        return self.settings.temperature == 0

    def draw(self, logits_K: torch.Tensor) -> int:
        """Nucleus sampling (Holtzman et al., 2020, section 3.1): of the likeliest tokens that make up `top_p`."""
        scaled_K = (logits_K.double() - logits_K.max()) / self.settings.temperature
        share_K, token_K = scaled_K.softmax(0).sort(descending=True, stable=True)
        before_K = share_K.cumsum(0) - share_K
        inside_K = before_K < self.settings.top_p
        inside_K[0] = True
        upto_K = (share_K * inside_K).cumsum(0)
        drawn = torch.rand(1, dtype=torch.float64, generator=self.random).to(upto_K.device) * upto_K[-1]
        place = torch.searchsorted(upto_K, drawn, right=True)
        return int(token_K[min(int(place), int(inside_K.sum()) - 1)])


def choose(logits_RK: torch.Tensor, drawings: Sequence[Drawing]) -> list[int]:
    """The next token of each row."""
    tokens = argmax(logits_RK).tolist()
    for row, drawing in enumerate(drawings):
        if not drawing.is_greedy:
            tokens[row] = drawing.draw(logits_RK[row])
    return tokens
