"""Image encoders: any vision model of transformers, seen as pixels to patch states.

Shapes: N images, H x W pixels, P patches (class tokens included), V width of the encoder.
"""

from typing import Literal

import torch
import transformers
from pydantic import BaseModel, ConfigDict
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from polylens.errors import UserError
from polylens.models.checkpoints.blip2_files import is_blip2
from polylens.models.checkpoints.blip2_parts import read_vision
from polylens.models.checkpoints.registry import resolve_model
from polylens.pretrained import load_whole

# Heads over the patch states, which are all that is read here.
UNUSED = ("pooler", "head.")


class VisionConfig(BaseModel):
    """Where the encoder comes from, and which of its states are used."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = None
    layer: Literal["last", "penultimate"] = "last"
    class_token: bool = True


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


def load_vision(config: VisionConfig, dtype: torch.dtype = torch.float32) -> VisionTower:
    """The encoder in the folder (or hub repository) `config.path`; of a two-tower model, its vision tower.

    Raises `UserError` when the path is missing or holds no vision model.
    """
    if config.path is None:
        raise UserError(
            "The vision part has no path: set vision.path to a model folder, a packaged name or a hub id."
        )
    source = resolve_model(config.path, part="vision")
    if is_blip2(source):
        return VisionTower(read_vision(source, dtype), config.layer, config.class_token)
    try:
        model_config = AutoConfig.from_pretrained(source)
        try:
            model = load_whole(AutoModel, source, unused=UNUSED, dtype=dtype)
        except ValueError:
            # Some vision models stand in no Auto table; their folder names their class.
            named = getattr(transformers, model_config.architectures[0])
            model = load_whole(named, source, unused=UNUSED, dtype=dtype)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"No vision model can be loaded from '{config.path}': {error}") from error
    model = getattr(model, "vision_model", None) if hasattr(model.config, "vision_config") else model
    if model is None or getattr(model, "main_input_name", "pixel_values") != "pixel_values":
        raise UserError(f"'{config.path}' holds no vision model: give the folder of an image encoder.")
    return VisionTower(model, config.layer, config.class_token)
