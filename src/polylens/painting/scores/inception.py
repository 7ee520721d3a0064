"""FID's own Inception v3, with weights that the user gives (pt_inception-2015-12-05-6726825d.pth or its like).

It is the network of the first FID program, which differs from torchvision's in its pools: averages leave the padding
out, and the last block takes the maximum.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision import __version__ as torchvision_version
from torchvision.models import inception

from polylens.errors import UserError
from polylens.files import sha256_file

SIDE, CLASSES, WIDTH = 299, 1008, 2048


def _average(states: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(states, kernel_size=3, stride=1, padding=1, count_include_pad=False)


def _maximum(states: torch.Tensor) -> torch.Tensor:
    return F.max_pool2d(states, kernel_size=3, stride=1, padding=1)


def _with_pool(kind: type[nn.Module], pool: Callable[[torch.Tensor], torch.Tensor]) -> type[nn.Module]:
    class Block(kind):  # type: ignore[misc, valid-type]
        """torchvision's block, its last branch behind another pool."""

        def _forward(self, states: torch.Tensor) -> list[torch.Tensor]:
            branches = super()._forward(states)
            return [*branches[:-1], self.branch_pool(pool(states))]

    return Block


def fid_inception() -> inception.Inception3:
    """The network without weights, ending in its 2,048 features."""
    blocks: list[Any] = [
        inception.BasicConv2d,
        _with_pool(inception.InceptionA, _average),
        inception.InceptionB,
        _with_pool(inception.InceptionC, _average),
        inception.InceptionD,
        _with_pool(inception.InceptionE, _average),
        inception.InceptionAux,
    ]
    net = inception.Inception3(
        num_classes=CLASSES, aux_logits=False, inception_blocks=blocks, init_weights=False
    )
    net.Mixed_7c = _with_pool(inception.InceptionE, _maximum)(WIDTH)
    net.dropout = nn.Identity()
    return net


class InceptionFeatures:
    """(N, 2048) features as pytorch-fid has them: squeezed to 299 x 299 bilinearly, without antialiasing.

    Raises `UserError` for a file that is not these weights.
    """

    def __init__(self, weights: str | Path, device: str | torch.device = "cpu") -> None:
        weights = Path(weights)
        digest = sha256_file(weights)
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            self.net = fid_inception()
            self.net.load_state_dict(state)
        except (RuntimeError, UnpicklingError, EOFError, AttributeError, TypeError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"'{weights}' does not hold the weights of FID's Inception ({reason}): give"
                " pt_inception-2015-12-05-6726825d.pth of pytorch-fid."
            ) from error
        self.net.fc = nn.Identity()
        self.net.eval().to(device)
        self.device = device
        self.settings = {
            "network": "Inception v3 of the first FID program",
            "weights": weights.name,
            "weights_sha256": digest,
            "resize": f"bilinear to {SIDE} x {SIDE} without antialiasing",
            "crop": "none",
            "torchvision": torchvision_version,
        }

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        pixels = [torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1) for picture in pictures]
        resized = [
            F.interpolate(one[None].float() / 255, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
            for one in pixels
        ]
        return self.net(2 * torch.cat(resized).to(self.device) - 1)
