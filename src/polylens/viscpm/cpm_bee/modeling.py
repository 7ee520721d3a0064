"""CPM-Bee itself. Parameters are named as in the released files.

Shapes: B rows, T tokens (queries), K keys (T and what a cache holds), S segments, D width, H heads, A width of a head,
F inner width, V vocabulary, E columns beyond it.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from polylens.viscpm.cpm_bee.config import CpmBeeConfig
from polylens.viscpm.cpm_bee.layout import IGNORED, CpmBeeBatch

SUB_ID_STEP = 16  # positions of the rotation from one sub-id to the next
ROTARY_BASE = 10_000.0
RESIDUAL = 1.05
FEW_ROWS = range(8, 33)


@dataclass
class Cache:
    """Room for the keys and values of all layers, (B, H, K, A) each, and how much of it is in use."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    used: int = 0


class Linear(nn.Linear):
    """A linear layer without a bias."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__(inner, outer, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return project(x, self.weight)


def make_quantizable(model: PreTrainedModel) -> None:
    """Let bitsandbytes find the linear layers of a model that is to be loaded in 8 or 4 bits.

    transformers replaces layers whose class is `nn.Linear` itself, and passes over those of other classes in silence.
    """
    if getattr(model.config, "quantization_config", None) is None:
        return
    for module in model.modules():
        if type(module) is Linear:
            module.__class__ = nn.Linear  # type: ignore[assignment]


def project(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(..., D) states by (N, D) weights: (..., N)."""
    rows = x.numel() // x.shape[-1]
    if rows in FEW_ROWS and x.dtype is torch.float32 and x.device.type == "cpu":
        # MKL reads all weights anew for every third row of so few; the other way round it reads them once.
        return (weight @ x.reshape(rows, -1).T).T.reshape(*x.shape[:-1], -1)
    return F.linear(x, weight)


class RmsNorm(nn.Module):
    """Root mean square norm, computed in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return wide.to(x.dtype) * self.weight


class Attention(nn.Module):
    """Attention with a bias added to the scores; every projection is scaled by the root of its fan-in."""

    def __init__(self, config: CpmBeeConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.num_attention_heads * config.head_dim
        self.num_heads, self.head_dim = config.num_attention_heads, config.head_dim
        self.project_q = Linear(width, inner)
        self.project_k = Linear(width, inner)
        self.project_v = Linear(width, inner)
        self.attention_out = Linear(inner, width)

    def forward(
        self, x: torch.Tensor, bias: torch.Tensor, blind: torch.Tensor | None, cache: Cache | None, layer: int
    ) -> torch.Tensor:
        """(B, T, D) to (B, T, D); `bias` (B, H, T, K) is very low where a query must not look."""
        scale = x.shape[-1] ** -0.5
        q, k, v = (self._split(p(x) * scale) for p in (self.project_q, self.project_k, self.project_v))
        if cache is not None:
            end = cache.used + k.shape[2]
            cache.keys[layer][:, :, cache.used : end] = k
            cache.values[layer][:, :, cache.used : end] = v
            k, v = cache.keys[layer][:, :, :end], cache.values[layer][:, :, :end]
        heard = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        if blind is not None:
            heard = heard.masked_fill(blind[:, None, :, None], 0.0)
        heard = heard.transpose(1, 2).flatten(2)
        return self.attention_out(heard) * heard.shape[-1] ** -0.5

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)


class AttentionBlock(nn.Module):
    def __init__(self, config: CpmBeeConfig) -> None:
        super().__init__()
        self.layernorm_before_attention = RmsNorm(config.hidden_size, config.eps)
        self.self_attention = Attention(config)

    def forward(self, x: torch.Tensor, *where: Any) -> torch.Tensor:
        return (x + self.self_attention(self.layernorm_before_attention(x), *where)) / RESIDUAL


class Gate(nn.Module):
    """gelu(w_0 x) * (w_1 x)."""

    def __init__(self, config: CpmBeeConfig) -> None:
        super().__init__()
        self.w_0 = Linear(config.hidden_size, config.intermediate_size)
        self.w_1 = Linear(config.hidden_size, config.intermediate_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = x.shape[-1] ** -0.5
        return F.gelu(self.w_0(x) * scale) * (self.w_1(x) * scale)


class FeedForward(nn.Module):
    def __init__(self, config: CpmBeeConfig) -> None:
        super().__init__()
        self.w_in = Gate(config)
        self.w_out = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.w_in(x)
        # Scaled before the product: in float16 the product itself would overflow.
        return self.w_out(x * x.shape[-1] ** -0.5)


class FeedForwardBlock(nn.Module):
    def __init__(self, config: CpmBeeConfig) -> None:
        super().__init__()
        self.layernorm_before_ffn = RmsNorm(config.hidden_size, config.eps)
        self.ffn = FeedForward(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x + self.ffn(self.layernorm_before_ffn(x))) / RESIDUAL


class Layer(nn.Module):
    def __init__(self, config: CpmBeeConfig) -> None:
        super().__init__()
        self.self_att = AttentionBlock(config)
        self.ffn = FeedForwardBlock(config)

    def forward(self, x: torch.Tensor, *where: Any) -> torch.Tensor:
        return self.ffn(self.self_att(x, *where))


class Encoder(nn.Module):
    def __init__(self, config: CpmBeeConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.output_layernorm = RmsNorm(config.hidden_size, config.eps)


class Embedding(nn.Module):
    """Token embeddings, rotated by sub-ids, and the logits against them.

    Both uses go through `forward`, which is where weights that lie elsewhere are brought in.
    """

    def __init__(self, config: CpmBeeConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))

    def forward(
        self, ids: torch.Tensor, subs: torch.Tensor, states: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embeddings (..., D) of ids and sub-ids; with `states` (..., D) their logits (..., V + E), E = len(ids)."""
        rows = rotate(F.embedding(ids, self.weight) * self.weight.shape[1] ** -0.5, subs)
        if states is None:
            return rows
        known = project(states * self.weight.shape[1] ** -0.5, self.weight)
        return torch.cat([known, F.linear(states, rows)], -1)


def rotate(x: torch.Tensor, subs: torch.Tensor) -> torch.Tensor:
    """Rotate (..., D) by sub-ids (...), halves as in GPT-NeoX; sub-id 0 is no rotation."""
    width = x.shape[-1]
    exponents = torch.arange(0, width, 2, device=x.device, dtype=torch.float32) / width
    angles = (subs * SUB_ID_STEP).float()[..., None] * ROTARY_BASE**-exponents
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    low, high = x.chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


class PositionBias(nn.Module):
    """What is added to the attention scores: by distance inside a segment, by relation between segments."""

    def __init__(self, config: CpmBeeConfig) -> None:
        super().__init__()
        self.num_buckets, self.max_distance = config.num_position_buckets, config.max_distance
        self.relative_attention_bias = nn.Parameter(
            torch.empty(config.num_position_buckets + config.num_segment_buckets, config.num_attention_heads)
        )

    def forward(
        self, distances: torch.Tensor, relations: torch.Tensor | None = None, same: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Biases (H, ...) of `distances` (..., key - query), and of `relations` (...) where not in the `same`
        segment.
        """
        buckets = self._buckets(distances)
        if relations is not None and same is not None:
            buckets = torch.where(same, buckets, relations - 1 + self.num_buckets)
        return self.relative_attention_bias.t()[:, buckets]

    def _buckets(self, distances: torch.Tensor) -> torch.Tensor:
        half = self.num_buckets // 2
        exact = half // 2
        size = distances.abs()
        far = exact + (
            (size.clamp(min=1).float() / exact).log() / math.log(self.max_distance / exact) * (half - exact)
        ).to(torch.long)
        return torch.where(size < exact, size, far.clamp(max=half - 1)) + half * (distances > 0)


class CpmBeePreTrainedModel(PreTrainedModel):
    """Loading, saving and the initial weights that CPM-Bee's scaling asks for."""

    config_class = CpmBeeConfig
    base_model_prefix = ""
    main_input_name = "batch"
    _no_split_modules = ["Layer", "Embedding"]  # noqa: RUF012 (transformers reads it from the class)
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | Embedding):
            nn.init.normal_(module.weight)
        elif isinstance(module, PositionBias):
            nn.init.normal_(module.relative_attention_bias)
        elif isinstance(module, RmsNorm):
            nn.init.ones_(module.weight)


class CpmBee(CpmBeePreTrainedModel):
    """CPM-Bee: dictionaries to hidden states, logits and answers."""

    def __init__(self, config: CpmBeeConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self.input_embedding = Embedding(config)
        self.position_bias = PositionBias(config)
        self.recompute = (
            False  # in training, compute each layer again backwards instead of keeping its states
        )
        make_quantizable(self)
        self.post_init()

    def embed(self, batch: CpmBeeBatch, visual: torch.Tensor | None = None) -> torch.Tensor:
        """(B, T, D) embeddings; `visual` (N, Q, D) takes the places of `batch.image_mask`, row by row."""
        embeds = self.input_embedding(batch.input_ids, batch.input_subs)
        if visual is None:
            return embeds
        return embeds.masked_scatter(batch.image_mask[..., None], visual.to(embeds.dtype))

    def forward(
        self, batch: CpmBeeBatch, visual: torch.Tensor | None = None, cache: Cache | None = None
    ) -> torch.Tensor:
        """The last hidden states (B, T, D), after the final norm.

        Padding attends to nothing, and everything else is applied to it as to any token. With a `cache`, its keys and
        values are kept there for answers to go on from.
        """
        embeds = self.embed(batch, visual)
        bias, blind = self.attention_bias(batch, embeds.dtype)
        return self.run_layers(embeds, bias, blind, cache)

    def attention_bias(
        self, batch: CpmBeeBatch, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(position bias with the mask in it (B, H, T, T), rows (B, T) that see nothing, if there are any)."""
        places = torch.arange(batch.segments.shape[1], device=batch.segments.device)
        distances = (places[None, :] - places[:, None])[None]
        rows = torch.arange(len(batch.segments), device=places.device)[:, None, None]
        query, key = batch.segments[:, :, None], batch.segments[:, None, :]
        bias = self.position_bias(distances, batch.relations[rows, query, key], query == key).transpose(0, 1)
        seen = batch.context[:, None, :] | (~batch.context[:, :, None] & (distances <= 0))
        seen = seen & batch.mask[:, None, :] & batch.mask[:, :, None]
        blind = None if bool(batch.mask.all()) else ~batch.mask
        return bias.to(dtype).masked_fill(~seen[:, None], torch.finfo(dtype).min), blind

    def run_layers(
        self, x: torch.Tensor, bias: torch.Tensor, blind: torch.Tensor | None, cache: Cache | None = None
    ) -> torch.Tensor:
        """All layers and the final norm over embeddings (B, T, D); a `cache` grows by T."""
        for number, layer in enumerate(self.encoder.layers):
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(layer, x, bias, blind, cache, number, use_reentrant=False)
            else:
                x = layer(x, bias, blind, cache, number)
        if cache is not None:
            cache.used += x.shape[1]
        return self.encoder.output_layernorm(x)

    def logits(self, states: torch.Tensor, extension: torch.Tensor) -> torch.Tensor:
        """(..., V + E) logits of states (..., D); `extension` (E, 2) are the pairs beyond the vocabulary."""
        return self.input_embedding(extension[:, 0], extension[:, 1], states)

    def loss(
        self, batch: CpmBeeBatch, visual: torch.Tensor | None = None, num_targets: int | None = None
    ) -> torch.Tensor:
        """Cross-entropy summed over the batch's targets, divided by `num_targets` (the batch's own)."""
        wanted = batch.labels != IGNORED
        logits = self.logits(self(batch, visual)[wanted], batch.extension)
        total = F.cross_entropy(logits.float(), batch.labels[wanted], reduction="sum")
        return total / (num_targets or int(wanted.sum()))

    def new_cache(self, batch_size: int, length: int) -> Cache:
        """Room for `length` tokens of `batch_size` rows."""
        config, like = self.config, self.encoder.output_layernorm.weight
        shape = (batch_size, config.num_attention_heads, length, config.head_dim)
        layers = range(config.num_hidden_layers)
        return Cache([like.new_empty(shape) for _ in layers], [like.new_empty(shape) for _ in layers])
