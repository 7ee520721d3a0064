"""Augmentation of pictograms, in batches: what differs between drawing styles is what is varied.

All functions take and give float32 (B, 4, H, W) RGBA in [0, 1] unless they say otherwise.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def augment(pictures_BCHW: Tensor, flip: Tensor, generator: torch.Generator) -> Tensor:
    """Random views on random backgrounds, (B, 3, H, W) in [0, 1]. `flip` (B,) says which may be mirrored."""
    draw = Draw(len(pictures_BCHW), generator)
    pictures = _warp(pictures_BCHW, flip, draw)
    pictures = _outline(pictures, draw)
    colour, alpha = pictures[:, :3], pictures[:, 3:]
    colour = _restyle(colour, draw)
    colour = _recolour(colour, draw)
    background = torch.where(draw.happens(0.6), torch.ones(()), draw.uniform(0, 1, 3))
    views = colour * alpha + background * (1 - alpha)
    views = torch.where(draw.happens(0.15), _edges(views), views)
    views = torch.where(draw.happens(0.15), views.mean(1, keepdim=True).expand_as(views), views)
    return _erase(views, draw).clamp(0, 1)


class Draw:
    """Random numbers per picture of a batch, shaped to broadcast over (B, C, H, W)."""

    def __init__(self, size: int, generator: torch.Generator):
        self.size, self.generator = size, generator

    def uniform(self, low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(self.size, channels, 1, 1, generator=self.generator)

    def happens(self, probability: float) -> Tensor:
        return self.uniform(0, 1) < probability


def _warp(pictures: Tensor, flip: Tensor, draw: Draw) -> Tensor:
    """Rotation, zoom, shear, shift, mirror, and a smooth elastic deformation."""
    size = len(pictures)
    angle = draw.uniform(-0.35, 0.35).flatten() * (draw.uniform(0, 1).flatten() < 0.8)
    zoom = draw.uniform(0.8, 1.45).flatten()
    aspect = draw.uniform(0.85, 1.18).flatten()
    shear = draw.uniform(-0.15, 0.15).flatten()
    mirror = torch.where(flip & draw.happens(0.5).flatten(), -1.0, 1.0)
    shift = draw.uniform(-0.18, 0.18, 2)[:, :, 0, 0]
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [
        torch.stack([cos * aspect * mirror, -sin + shear, shift[:, 0]], 1),
        torch.stack([(sin + shear) * mirror, cos / aspect, shift[:, 1]], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(pictures.shape), align_corners=False)
    knots = torch.randn(size, 2, 5, 5, generator=draw.generator) * draw.uniform(0.0, 0.09)
    elastic = F.interpolate(knots, pictures.shape[2:], mode="bicubic", align_corners=True)
    # Transparent pixels carry no colour: sampling premultiplied colours keeps dark fringes away.
    premultiplied = torch.cat([pictures[:, :3] * pictures[:, 3:], pictures[:, 3:]], 1)
    warped = F.grid_sample(premultiplied, grid + elastic.permute(0, 2, 3, 1), align_corners=False)
    alpha = warped[:, 3:]
    return torch.cat([warped[:, :3] / alpha.clamp(min=1e-3), alpha], 1).clamp(0, 1)


def _outline(pictures: Tensor, draw: Draw) -> Tensor:
    """A dark outline around the shape for some, as line-and-fill styles have it."""
    alpha = pictures[:, 3:]
    grown = F.max_pool2d(alpha, 3, stride=1, padding=1)
    ring = (grown - (-F.max_pool2d(-alpha, 3, stride=1, padding=1))) * draw.happens(0.2)
    shade = draw.uniform(0, 0.3, 3)
    colour = pictures[:, :3] * (1 - ring) + shade * ring
    return torch.cat([colour, torch.maximum(alpha, ring)], 1)


def _restyle(colour: Tensor, draw: Draw) -> Tensor:
    """Flatter or softer fills: blur, and few levels of colour."""
    blurred = F.avg_pool2d(F.pad(colour, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    colour = torch.where(draw.happens(0.25), blurred, colour)
    levels = draw.uniform(2, 6).round()
    return torch.where(draw.happens(0.25), (colour * levels).round() / levels, colour)


def _recolour(colour: Tensor, draw: Draw) -> Tensor:
    """A random linear map of the colours, a change of light, for some an inversion or other channels."""
    size = draw.size
    strength = draw.uniform(0, 0.45)[:, :, 0]
    mixing = torch.eye(3) + strength * torch.randn(size, 3, 3, generator=draw.generator)
    mixing = mixing / mixing.sum(2, keepdim=True).clamp(min=0.5)
    mixed = torch.einsum("bij,bjhw->bihw", mixing, colour)
    colour = torch.where(draw.happens(0.7), mixed, colour)
    colour = torch.where(draw.happens(0.08), 1 - colour, colour)
    colour = torch.where(draw.happens(0.08), colour.roll(1, 1), colour)
    colour = colour.clamp(1e-3, 1) ** torch.exp(draw.uniform(-0.6, 0.6))
    return (colour - 0.5) * draw.uniform(0.6, 1.4) + 0.5 + draw.uniform(-0.12, 0.12)


def _edges(views: Tensor) -> Tensor:
    """Dark lines on white where the brightness changes."""
    grey = F.pad(views.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = grey[:, :, 1:-1, 2:] - grey[:, :, 1:-1, :-2]
    down = grey[:, :, 2:, 1:-1] - grey[:, :, :-2, 1:-1]
    return (1 - 2 * (across.abs() + down.abs())).clamp(0, 1).expand_as(views)


def _erase(views: Tensor, draw: Draw) -> Tensor:
    """One grey rectangle for some."""
    height, width = views.shape[2:]
    rows = torch.arange(height).view(1, 1, -1, 1) / height
    columns = torch.arange(width).view(1, 1, 1, -1) / width
    inside = ((rows - draw.uniform(0.1, 0.9)).abs() < draw.uniform(0.05, 0.2)) & (
        (columns - draw.uniform(0.1, 0.9)).abs() < draw.uniform(0.05, 0.2)
    )
    return torch.where(inside & draw.happens(0.3), draw.uniform(0, 1, 3), views)
