"""Augmentation of transparent pictograms, in batches: another style, with outlines and on other grounds."""

import torch
from torch import Tensor
from torch.nn import functional as F

from polylens.training.style import Draw, finish, recolour, refill, warp


def augment(pictures_BCHW: Tensor, flip: Tensor, generator: torch.Generator) -> Tensor:
    """RGBA (B, 4, H, W) in [0, 1] to random views on random grounds, (B, 3, H, W) in [0, 1].

    `flip` (B,) says which may be mirrored.
    """
    draw = Draw(len(pictures_BCHW), generator)
    pictures = _outline(_warp(pictures_BCHW, flip, draw), draw)
    colour, alpha = pictures[:, :3], pictures[:, 3:]
    colour = recolour(refill(colour, draw), draw)
    background = torch.where(draw.happens(0.6), torch.ones(()), draw.uniform(0, 1, 3))
    return finish(colour * alpha + background * (1 - alpha), draw)


def _warp(pictures: Tensor, flip: Tensor, draw: Draw) -> Tensor:
    # Transparent pixels carry no colour: sampling premultiplied colours keeps dark fringes away.
    premultiplied = torch.cat([pictures[:, :3] * pictures[:, 3:], pictures[:, 3:]], 1)
    warped = warp(premultiplied, draw, flip)
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
