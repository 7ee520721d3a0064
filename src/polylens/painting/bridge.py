"""From a language model's hidden states to what the denoiser's cross-attention reads.

Shapes: B prompts, T states of the longest, L width of the language model, C width of the cross-attention, Q tokens of
the resampler.
"""

import torch
from torch import nn

from polylens.errors import UserError
from polylens.models.parts.resamplers import Perceiver
from polylens.painting.config import BridgeConfig

Context = tuple[torch.Tensor, torch.Tensor | None]


class LinearBridge(nn.Module):
    """VisCPM-Paint's `trans_block`: a linear layer without bias and a layer norm, state by state."""

    def __init__(self, width: int, context_width: int, eps: float) -> None:
        super().__init__()
        # Named as in the released files.
        self.w_out_res = nn.Linear(width, context_width, bias=False)
        self.layernorm = nn.LayerNorm(context_width, eps=eps)

    def forward(self, states: torch.Tensor, mask: torch.Tensor | None) -> Context:
        """(B, T, L) to (B, T, C), with the mask (B, T) as it was."""
        return self.layernorm(self.w_out_res(states)), mask


class ResamplerBridge(nn.Module):
    """A Perceiver that reads the states of a prompt into Q tokens, then the linear bridge."""

    def __init__(self, width: int, context_width: int, config: BridgeConfig) -> None:
        super().__init__()
        if config.width % config.num_heads:
            raise UserError(
                f"bridge.width {config.width} cannot be shared by {config.num_heads} heads: choose a multiple."
            )
        self.resampler = Perceiver(width, config.num_tokens, config.width, config.depth, config.num_heads)
        self.out = LinearBridge(config.width, context_width, config.eps)

    def forward(self, states: torch.Tensor, mask: torch.Tensor | None) -> Context:
        """(B, T, L) and the mask (B, T) to (B, Q, C), all of which counts."""
        return self.out(self.resampler(states, mask), None)


Bridge = LinearBridge | ResamplerBridge


def new_bridge(config: BridgeConfig, width: int, context_width: int) -> Bridge:
    """A bridge with random weights. Raises `UserError` for sizes that do not fit together."""
    if config.kind == "linear":
        return LinearBridge(width, context_width, config.eps)
    return ResamplerBridge(width, context_width, config)
