"""Image encoders: any vision model of transformers, seen as pixels to patch states.

Shapes: N images, H x W pixels, P patches (class tokens included), V width of the encoder.
"""

from typing import Literal

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel


class VisionTower(nn.Module):
    """A transformers vision model; `forward` gives its patch states, feature maps flattened row by row.

    `layer="penultimate"` takes the states before the last block (LLaVA's choice); `class_token=False` drops
    the tokens in front of the grid.
    """

    def __init__(
        self, model: PreTrainedModel, layer: Literal["last", "penultimate"] = "last", class_token: bool = True
    ) -> None:
        super().__init__()
        self.model = model
        self.layer = layer
        self.class_token = class_token

    @property
    def config(self) -> transformers.PreTrainedConfig:
        return self.model.config

    @property
    def width(self) -> int:
        """V, the width of a patch state."""
        widths = getattr(self.config, "hidden_sizes", None)
        if widths:
            return widths[-1 if self.layer == "last" else -2]
        return self.config.hidden_size

    def forward(self, pixel_values_NCHW: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) normalised pixels to (N, P, V) patch states."""
        pixels = pixel_values_NCHW.to(self.model.dtype)
        if pixels.device.type == "cpu":
            # Convolutions and pooling are twice as fast there on this layout.
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        output = self.model(
            pixel_values=pixels,
            output_hidden_states=self.layer == "penultimate",
        )
        states = output.last_hidden_state if self.layer == "last" else output.hidden_states[-2]
        if states.ndim == 4:
            return states.flatten(2).transpose(1, 2)
        if not self.class_token:
            grid = pixel_values_NCHW.shape[-2] // self.config.patch_size
            grid *= pixel_values_NCHW.shape[-1] // self.config.patch_size
            return states[:, states.shape[1] - grid :]
        return states

    def num_patches(self, height: int, width: int) -> int:
        """P for images of `height` x `width` pixels, found on the meta device: nothing is computed."""
        with torch.device("meta"):
            twin = VisionTower(type(self.model)(self.config), self.layer, self.class_token).eval()
            return twin(torch.empty(1, 3, height, width)).shape[1]
