"""The Frechet distance of two sets of pictures, as normal distributions of their features (Heusel et al., 2017).

    pictures -> features (N, D) -> mean (D,), covariance (D, D) -> |m1 - m2|^2 + tr(C1 + C2 - 2 sqrt(C1 C2))

With Inception's features it is FID. The score moves with the resizing, the crop and the weights, so features say
what they did (`settings`), and results keep it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from polylens.data.sample import Picture
from polylens.errors import UserError
from polylens.evaluation.bootstrap import Floats
from polylens.models.parts.vision import VisionTower


class Features(Protocol):
    """(N pictures) -> (N, D) float32, each by itself; `settings` are all that moves them."""

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def __call__(self, pictures: Sequence[Image.Image]) -> torch.Tensor: ...


class Moments:
    """Sums over pictures' features, from which mean and covariance follow; nothing else is kept of them."""

    def __init__(self) -> None:
        self.count = 0
        self.shift: Floats | None = None
        self.sum: Any = 0.0
        self.products: Any = 0.0

    def add(self, features: torch.Tensor) -> None:
        """Count (N, D) features in."""
        values_ND = features.detach().double().cpu().numpy()
        # Sums of squares of shifted values keep their digits.
        if self.shift is None:
            self.shift = values_ND.mean(0)
        values_ND = values_ND - self.shift
        self.count += len(values_ND)
        self.sum = self.sum + values_ND.sum(0)
        self.products = self.products + values_ND.T @ values_ND

    def mean(self) -> Floats:
        assert self.shift is not None, "moments of no pictures"
        return self.shift + self.sum / self.count

    def covariance(self) -> Floats:
        """With n - 1, as usual; of one picture it is unknown. Raises `UserError` for fewer than two."""
        if self.count < 2:
            raise UserError(f"A distribution needs at least 2 pictures, and there are {self.count}.")
        outer_DD = np.outer(self.sum, self.sum) / self.count
        return (self.products - outer_DD) / (self.count - 1)


def moments(
    pictures: Iterable[Picture],
    features: Features,
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda count: None,
) -> Moments:
    """Features of all pictures, one batch after the other."""
    found, rest = Moments(), iter(pictures)
    while several := list(islice(rest, batch_size)):
        found.add(features([picture.load() for picture in several]))
        advance(len(several))
    return found


def frechet_distance(first: Moments, second: Moments) -> float:
    """At least 0; 0 for equal moments. Raises `UserError` for fewer than two pictures on a side."""
    mean = first.mean() - second.mean()
    one_DD, two_DD = first.covariance(), second.covariance()
    # tr sqrt(C1 C2) is the sum of the square roots of the eigenvalues of the symmetric sqrt(C1) C2 sqrt(C1).
    values, vectors = np.linalg.eigh(one_DD)
    root_DD = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    inner = np.linalg.eigvalsh(root_DD @ two_DD @ root_DD)
    cross = np.sqrt(np.maximum(inner, 0)).sum()
    return max(0.0, float(mean @ mean + np.trace(one_DD) + np.trace(two_DD) - 2 * cross))


class TowerFeatures:
    """A vision tower's patch states, averaged: the distance is `fd_encoder`."""

    def __init__(self, tower: VisionTower, processor: Any, settings: Mapping[str, Any]) -> None:
        self.tower, self.processor = tower.eval(), processor
        self.settings = {**settings, "processor": processor.to_dict(), "pooling": "mean of patches"}

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        weight = next(self.tower.parameters())
        pixels = self.processor(pictures).to(weight.device, weight.dtype)
        return self.tower(pixels).mean(1).float()
