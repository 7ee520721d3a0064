"""From patch states to a few visual tokens: Q-Former, Perceiver, or an MLP over all patches.

A new kind is one class and one line, an entry point of the group `polylens.resamplers`.

Shapes: N images, P patches, V their width, Q visual tokens per image, D the resampler's width.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from torch import nn
from torch.nn import functional as F
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from polylens.errors import UserError
from polylens.models.config import RESAMPLERS, ResamplerConfig
from polylens.plugins import find_plugin


class Resampler(nn.Module, ABC):
    """(N, P, V) patch states to (N, Q, D) queries.

    With `projects` the queries are as wide as the language model already: no linear projector follows.
    """

    projects: ClassVar[bool] = False
    num_tokens: int  # Q
    width: int  # D

    @classmethod
    @abstractmethod
    def new(cls, config: ResamplerConfig, patch_width: int, num_patches: int, lm_width: int) -> Self:
        """One with random weights, for `num_patches` states of `patch_width`, before a language model of `lm_width`.

        Raises `UserError` for sizes that do not fit together.
        """


class QFormer(Resampler):
    """Learned queries that read the patches through BLIP-2's Q-Former (arXiv 2301.12597)."""

    def __init__(self, config: Blip2QFormerConfig, num_tokens: int) -> None:
        super().__init__()
        self.query_tokens = nn.Parameter(torch.zeros(1, num_tokens, config.hidden_size))
        nn.init.normal_(self.query_tokens, std=config.initializer_range)
        self.model = Blip2QFormerModel(config)
        self.num_tokens, self.width = num_tokens, config.hidden_size

    @classmethod
    def new(cls, config: ResamplerConfig, patch_width: int, num_patches: int, lm_width: int) -> Self:
        _check_heads(config)
        qformer = Blip2QFormerConfig(
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.num_heads,
            intermediate_size=4 * config.width,
            encoder_hidden_size=patch_width,
            cross_attention_frequency=config.cross_attention_frequency,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
        )
        return cls(qformer, config.num_tokens)

    def forward(self, patches_NPV: torch.Tensor) -> torch.Tensor:
        """(N, P, V) patch states to (N, Q, D) query states."""
        queries = self.query_tokens.expand(len(patches_NPV), -1, -1)
        return self.model(query_embeds=queries, encoder_hidden_states=patches_NPV).last_hidden_state


class PerceiverBlock(nn.Module):
    """Latents attend to the patches and to each other, then a feed-forward layer; pre-norm, residual."""

    def __init__(self, width: int, patch_width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.latent_norm = nn.LayerNorm(width)
        self.patch_norm = nn.LayerNorm(patch_width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value_latents = nn.Linear(width, 2 * width, bias=False)
        self.key_value_patches = nn.Linear(patch_width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(
        self, latents_NQD: torch.Tensor, patches_NPV: torch.Tensor, seen: torch.Tensor | None
    ) -> torch.Tensor:
        normed = self.latent_norm(latents_NQD)
        pairs = torch.cat(
            [self.key_value_patches(self.patch_norm(patches_NPV)), self.key_value_latents(normed)], 1
        )
        keys, values = pairs.chunk(2, dim=-1)
        query, key, value = (
            x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (self.query(normed), keys, values)
        )  # N, heads, tokens, D / heads
        dropout = self.dropout if self.training else 0.0
        read = F.scaled_dot_product_attention(query, key, value, seen, dropout_p=dropout)
        latents = latents_NQD + self.out(read.transpose(1, 2).flatten(2))
        return latents + self.feed_forward(latents)


class Perceiver(Resampler):
    """A small Perceiver resampler (arXiv 2204.14198): learned latents read the patches in every block."""

    def __init__(
        self, patch_width: int, num_tokens: int, width: int, depth: int, num_heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, num_tokens, width) * width**-0.5)
        self.blocks = nn.ModuleList(
            PerceiverBlock(width, patch_width, num_heads, dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.num_tokens, self.width = num_tokens, width

    @classmethod
    def new(cls, config: ResamplerConfig, patch_width: int, num_patches: int, lm_width: int) -> Self:
        _check_heads(config)
        sizes = (config.num_tokens, config.width, config.depth, config.num_heads, config.dropout)
        return cls(patch_width, *sizes)

    def forward(self, patches_NPV: torch.Tensor, mask_NP: torch.Tensor | None = None) -> torch.Tensor:
        """(N, P, V) patch states to (N, Q, D) latents; where the mask (N, P) is False nothing is read."""
        latents = self.latents.expand(len(patches_NPV), -1, -1)
        seen = None if mask_NP is None else F.pad(mask_NP, (0, self.num_tokens), value=True)[:, None, None]
        for block in self.blocks:
            latents = block(latents, patches_NPV, seen)
        return self.norm(latents)


class MLP(Resampler):
    """LLaVA's two-layer projector (arXiv 2310.03744), every patch a token, already as wide as the language
    model.

    With `pixel_shuffle` each 2 x 2 square of patches is joined into one token of four times the width first.
    """

    projects = True

    def __init__(self, patch_width: int, num_patches: int, width: int, pixel_shuffle: bool = False) -> None:
        super().__init__()
        self.grid = round(num_patches**0.5)
        if pixel_shuffle and (self.grid**2 != num_patches or self.grid % 2):
            raise UserError(
                f"Pixel shuffle needs an even square grid of patches, not {num_patches} patches: "
                "set vision.class_token to false, or resampler.pixel_shuffle to false."
            )
        self.pixel_shuffle = pixel_shuffle
        self.num_tokens = num_patches // 4 if pixel_shuffle else num_patches
        self.width = width
        self.up = nn.Linear(patch_width * (4 if pixel_shuffle else 1), width)
        self.down = nn.Linear(width, width)

    @classmethod
    def new(cls, config: ResamplerConfig, patch_width: int, num_patches: int, lm_width: int) -> Self:
        return cls(patch_width, num_patches, lm_width, config.pixel_shuffle)

    def forward(self, patches_NPV: torch.Tensor) -> torch.Tensor:
        """(N, P, V) patch states to (N, Q, D) tokens; Q = P, or P / 4 with pixel shuffle."""
        if self.pixel_shuffle:
            half = self.grid // 2
            squares = patches_NPV.unflatten(1, (half, 2, half, 2))  # N, row, 2, column, 2, V
            patches_NPV = squares.transpose(2, 3).flatten(3).flatten(1, 2)
        return self.down(F.gelu(self.up(patches_NPV)))


def new_resampler(config: ResamplerConfig, patch_width: int, num_patches: int, lm_width: int) -> Resampler:
    """A resampler of the kind that `config` names; see `Resampler.new`."""
    kind: type[Resampler] = find_plugin(config.kind, "resampler", RESAMPLERS)
    return kind.new(config, patch_width, num_patches, lm_width)


def _check_heads(config: ResamplerConfig) -> None:
    if config.width % config.num_heads:
        raise UserError(
            f"resampler.width {config.width} cannot be shared by {config.num_heads} heads: choose a multiple."
        )
