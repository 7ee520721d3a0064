"""Random changes of what differs between drawing styles: shape, fills, colours, light, lines.

A model that has seen a thing in few styles learns to look past them. All functions take and give float32
(B, C, H, W) in [0, 1], the first three channels colours, and draw what is random per picture.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


class Draw:
    """Random numbers per picture of a batch, shaped to broadcast over (B, C, H, W): all of one generator, or each
    picture's of its own, so that it is changed alike in any batch."""

    def __init__(self, size: int, generators: torch.Generator | Sequence[torch.Generator]):
        self.size, self.generators = size, generators

    def uniform(self, low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * self._filled(torch.rand, channels, 1, 1)

    def normal(self, *shape: int) -> Tensor:
        return self._filled(torch.randn, *shape)

    def happens(self, probability: float) -> Tensor:
        return self.uniform(0, 1) < probability

    def _filled(self, fill: Callable[..., Tensor], *shape: int) -> Tensor:
        if isinstance(self.generators, torch.Generator):
            return fill(self.size, *shape, generator=self.generators)
        return torch.stack([fill(*shape, generator=generator) for generator in self.generators])


def restyle(pictures_B3HW: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Opaque pictures in another style, some as they are; a generator for each."""
    draw = Draw(len(pictures_B3HW), generators)
    views = warp(pictures_B3HW, draw, padding="border")
    views = recolour(refill(views, draw), draw)
    # Mostly on white as they are; multiplied, a white ground takes any colour.
    views = torch.where(draw.happens(0.3), views * draw.uniform(0.2, 1, 3), views)
    return torch.where(draw.happens(0.15), pictures_B3HW, finish(views, draw))


def warp(pictures: Tensor, draw: Draw, flip: Tensor | None = None, padding: str = "zeros") -> Tensor:
    """Rotation, zoom, shear, shift, a smooth elastic deformation, and for half of those with `flip` (B,) a mirror."""
    size = len(pictures)
    angle = draw.uniform(-0.35, 0.35).flatten() * (draw.uniform(0, 1).flatten() < 0.8)
    zoom = draw.uniform(0.8, 1.45).flatten()
    aspect = draw.uniform(0.85, 1.18).flatten()
    shear = draw.uniform(-0.15, 0.15).flatten()
    mirror = torch.ones(size) if flip is None else torch.where(flip & draw.happens(0.5).flatten(), -1.0, 1.0)
    shift = draw.uniform(-0.18, 0.18, 2)[:, :, 0, 0]
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [
        torch.stack([cos * aspect * mirror, -sin + shear, shift[:, 0]], 1),
        torch.stack([(sin + shear) * mirror, cos / aspect, shift[:, 1]], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(pictures.shape), align_corners=False)
    knots = draw.normal(2, 5, 5) * draw.uniform(0.0, 0.09)
    elastic = F.interpolate(knots, pictures.shape[2:], mode="bicubic", align_corners=True)
    grid = grid + elastic.permute(0, 2, 3, 1)
    return F.grid_sample(pictures, grid, padding_mode=padding, align_corners=False)


def refill(colour: Tensor, draw: Draw) -> Tensor:
    """Flatter or softer fills: blur, and few levels of colour."""
    blurred = F.avg_pool2d(F.pad(colour, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    colour = torch.where(draw.happens(0.25), blurred, colour)
    levels = draw.uniform(2, 6).round()
    return torch.where(draw.happens(0.25), (colour * levels).round() / levels, colour)


def recolour(colour: Tensor, draw: Draw) -> Tensor:
    """A random linear map of the colours, a change of light, for some an inversion or other channels."""
    strength = draw.uniform(0, 0.45)[:, :, 0]
    mixing = torch.eye(3) + strength * draw.normal(3, 3)
    mixing = mixing / mixing.sum(2, keepdim=True).clamp(min=0.5)
    mixed = torch.einsum("bij,bjhw->bihw", mixing, colour)
    colour = torch.where(draw.happens(0.7), mixed, colour)
    colour = torch.where(draw.happens(0.08), 1 - colour, colour)
    colour = torch.where(draw.happens(0.08), colour.roll(1, 1), colour)
    colour = colour.clamp(1e-3, 1) ** torch.exp(draw.uniform(-0.6, 0.6))
    return (colour - 0.5) * draw.uniform(0.6, 1.4) + 0.5 + draw.uniform(-0.12, 0.12)


def finish(views: Tensor, draw: Draw) -> Tensor:
    """Some become their edges, some lose their colour, some get a rectangle in front of them."""
    views = torch.where(draw.happens(0.15), _edges(views), views)
    views = torch.where(draw.happens(0.15), views.mean(1, keepdim=True).expand_as(views), views)
    return _erase(views, draw).clamp(0, 1)


def _edges(views: Tensor) -> Tensor:
    """Dark lines on white where the brightness changes."""
    grey = F.pad(views.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = grey[:, :, 1:-1, 2:] - grey[:, :, 1:-1, :-2]
    down = grey[:, :, 2:, 1:-1] - grey[:, :, :-2, 1:-1]
    return (1 - 2 * (across.abs() + down.abs())).clamp(0, 1).expand_as(views)


def _erase(views: Tensor, draw: Draw) -> Tensor:
    height, width = views.shape[2:]
    rows = torch.arange(height).view(1, 1, -1, 1) / height
    columns = torch.arange(width).view(1, 1, 1, -1) / width
    inside = ((rows - draw.uniform(0.1, 0.9)).abs() < draw.uniform(0.05, 0.2)) & (
        (columns - draw.uniform(0.1, 0.9)).abs() < draw.uniform(0.05, 0.2)
    )
    return torch.where(inside & draw.happens(0.3), draw.uniform(0, 1, 3), views)
