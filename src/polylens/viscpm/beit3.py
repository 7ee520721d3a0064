"""BEiT-3 as VisCPM uses it: image tokens and learned queries in one multiway transformer.

Every norm, projection and feed-forward has two copies, `A` for image positions and `B` for text positions; the queries
stand where text would. Parameters are named as in the released files.

Shapes: N images, H x W pixels, P patches and the class token, Q queries, T = P + Q, D width.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedConfig

FIRST_POSITION = 2  # the rows before it were for padding
MAX_TEXT = 1024
EPS = 1e-5

RELEASED = {
    "img_size": "image_size",
    "patch_size": "patch_size",
    "vocab_size": "vocab_size",
    "encoder_embed_dim": "hidden_size",
    "encoder_attention_heads": "num_attention_heads",
    "encoder_ffn_embed_dim": "intermediate_size",
    "encoder_layers": "num_hidden_layers",
}


class Beit3Config(PreTrainedConfig):
    """The defaults are those of BEiT-3 large at 224 pixels."""

    model_type = "polylens_beit3"

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        vocab_size: int = 64_010,
        hidden_size: int = 1024,
        intermediate_size: int = 4096,
        num_hidden_layers: int = 24,
        num_attention_heads: int = 16,
        **kwargs: Any,
    ) -> None:
        self.image_size = image_size
        self.patch_size = patch_size
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        super().__init__(**kwargs)


class Multiway(nn.Module):
    """Two copies of a module: `A` for the first `split` tokens, `B` for the rest."""

    def __init__(self, a: nn.Module, b: nn.Module) -> None:
        super().__init__()
        self.A, self.B = a, b

    def forward(self, x: torch.Tensor, split: int) -> torch.Tensor:
        return torch.cat([self.A(x[:, :split]), self.B(x[:, split:])], 1)


def _norms(width: int) -> Multiway:
    return Multiway(nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS))


def _linears(width: int) -> Multiway:
    return Multiway(nn.Linear(width, width), nn.Linear(width, width))


class Attention(nn.Module):
    """Full attention among all tokens, with a norm before the output projection."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj = (_linears(config.hidden_size) for _ in range(3))
        self.inner_attn_ln = _norms(config.hidden_size)
        self.out_proj = _linears(config.hidden_size)

    def forward(self, x: torch.Tensor, split: int) -> torch.Tensor:
        q, k, v = (
            part(x, split).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out_proj(self.inner_attn_ln(x, split), split)


class FeedForward(nn.Module):
    """GELU, and a norm before the second layer."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.ffn_layernorm = nn.LayerNorm(config.intermediate_size, eps=EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.ffn_layernorm(F.gelu(self.fc1(x))))


class Layer(nn.Module):
    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.self_attn_layer_norm = _norms(config.hidden_size)
        self.ffn = Multiway(FeedForward(config), FeedForward(config))
        self.final_layer_norm = _norms(config.hidden_size)

    def forward(self, x: torch.Tensor, split: int) -> torch.Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x, split), split)
        return x + self.ffn(self.final_layer_norm(x, split), split)


class Positions(nn.Module):
    """Learned positions: `A` for image tokens, `B` for text. Both uses go through `forward`."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        patches = (config.image_size // config.patch_size) ** 2
        self.A = nn.Embedding(patches + 1 + FIRST_POSITION, config.hidden_size)
        self.B = nn.Embedding(MAX_TEXT, config.hidden_size)

    def forward(self, image: int, text: int) -> torch.Tensor:
        """(T, D) for `image` tokens, then `text` ones."""
        places = torch.arange(FIRST_POSITION, FIRST_POSITION + max(image, text), device=self.A.weight.device)
        return torch.cat([self.A(places[:image]), self.B(places[:text])])


class Encoder(nn.Module):
    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        self.embed_positions = Positions(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.layer_norm = _norms(config.hidden_size)

    def forward(self, x: torch.Tensor, split: int) -> torch.Tensor:
        """(N, T, D) tokens, `split` of them image tokens, to (N, T, D)."""
        x = x + self.embed_positions(split, x.shape[1] - split)
        for layer in self.layers:
            x = layer(x, split)
        return self.layer_norm(x, split)


class VisionEmbedding(nn.Module):
    """Patches, behind a class token. The mask token belongs to BEiT-3's own pretraining."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        size = config.patch_size
        self.proj = nn.Conv2d(3, config.hidden_size, size, size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, P, D)."""
        patches = self.proj(pixel_values).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], 1)


class Beit3(nn.Module):
    """Images and queries to the states of the queries."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        self.text_embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.vision_embed = VisionEmbedding(config)
        self.encoder = Encoder(config)

    def forward(self, pixel_values: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) pixels and queries (Q, D) to the queries' last states (N, Q, D)."""
        image = self.vision_embed(pixel_values.to(query.dtype))
        x = torch.cat([image, query.expand(len(image), -1, -1)], 1)
        return self.encoder(x, image.shape[1])[:, image.shape[1] :]


def resize_positions(weight: torch.Tensor, num_patches: int) -> torch.Tensor:
    """Image positions for another number of patches: the square grid interpolated, all else kept.

    Takes (2 + 1 + old patches, D), gives (2 + 1 + num_patches, D).
    """
    kept = FIRST_POSITION + 1
    front, grid = weight[:kept], weight[kept:]
    old, new = round(len(grid) ** 0.5), round(num_patches**0.5)
    if old == new:
        return weight
    square = grid.float().view(1, old, old, -1).permute(0, 3, 1, 2)
    square = F.interpolate(square, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([front, square.permute(0, 2, 3, 1).reshape(new * new, -1).to(weight.dtype)])
