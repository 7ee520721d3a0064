"""Cross-attention of beams: what an encoder said is kept once per sample, however many rows read it.

Shapes: S samples, R = S x B rows of B beams each, H heads, T tokens of the encoder, D width of a head.
"""

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sdpa_per_sample"


def share_cross_attention(model: PreTrainedModel) -> bool:
    """Let one row of cached keys and values serve all rows of a sample; False where the model attends otherwise.

    To rows that have keys of their own nothing changes.
    """
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)
    return model.config._attn_implementation == NAME


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Queries (R, H, 1, D) of keys and values (S, H, T, D) to (R, 1, H, D), a sample's rows one after another."""
    if len(query) <= len(key):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    num_rows, heads, _, width = query.shape
    beams = num_rows // len(key)
    # A sample's beams stand where the tokens of a longer query would, and none of them hides another.
    together = query.reshape(len(key), beams, heads, width).transpose(1, 2)
    mask = None if attention_mask is None else attention_mask[::beams]
    found, _ = sdpa_attention_forward(module, together, key, value, mask, **settings | {"is_causal": False})
    return found.reshape(num_rows, 1, heads, width), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
