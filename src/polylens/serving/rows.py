"""The rows that a language model writes at the moment: they join and leave between two steps.

All rows share one KV cache, padded on the left, so that every row reads its next token at the same place.

Shapes: R rows, T tokens of the longest row, S tokens of the longest prompt of an encoder, H heads, K vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F
from transformers.cache_utils import DynamicLayer

from polylens.models.decoding.interface import Decodable
from polylens.models.decoding.scoring import Prompts


class Rows:
    """Reads one token of each row at a time. Empty at first; `join` adds prompts, `keep` lets rows go."""

    def __init__(self, model: Decodable) -> None:
        self.model = model
        self.clear()

    def clear(self) -> None:
        """Let all rows go."""
        self.cache: Any = None
        self.encoded: torch.Tensor | None = None  # (R, S, L)
        self.encoded_mask: torch.Tensor | None = None  # (R, S)
        self.mask: torch.Tensor | None = None  # (R, T) of what the cache of the answers' side holds

    def can_join(self) -> bool:
        """Whether prompts may join the rows that run: the cache can be padded, and positions do not move by it.

        Caches of states or of sliding windows cannot be padded. Encoder-decoders must have relative positions (T5).
        """
        if self.cache is None:
            return True
        relative = getattr(self.model.lm.config, "relative_attention_num_buckets", None) is not None
        plain = all(type(layer) is DynamicLayer for cache in self._caches() for layer in cache.layers)
        return plain and (relative or not self.model.is_encoder_decoder)

    def join(self, prompts: Prompts) -> None:
        """Add prompts that were read, as the last rows."""
        mask = prompts.mask
        if prompts.encoded is not None:
            mask = torch.ones(len(prompts.mask), 1, dtype=torch.long, device=mask.device)  # the start token
        if self.cache is None:
            self.cache, self.mask, self.encoded = prompts.cache, mask, prompts.encoded
            self.encoded_mask = None if prompts.encoded is None else prompts.mask
            return
        assert self.mask is not None
        for ours, theirs in zip(self._caches(), _caches(prompts.cache), strict=True):
            for layer, other in zip(ours.layers, theirs.layers, strict=True):
                layer.keys = _stack(layer.keys, other.keys, dim=2)
                layer.values = _stack(layer.values, other.values, dim=2)
        self.mask = _stack(self.mask, mask, dim=1)
        if prompts.encoded is not None:
            assert self.encoded is not None
            assert self.encoded_mask is not None
            self.encoded = _stack(self.encoded, prompts.encoded, dim=1)
            self.encoded_mask = _stack(self.encoded_mask, prompts.mask, dim=1)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order; what only the others needed is freed."""
        if not rows:
            self.clear()
            return
        assert self.mask is not None
        chosen = torch.tensor(rows, device=self.mask.device)
        for cache in self._caches():
            cache.batch_select_indices(chosen)
        self.mask = self.mask[chosen]
        own, *crossed = self._caches()
        if self.can_join():
            self.mask = _cut(own, self.mask)
        if self.encoded is not None:
            assert self.encoded_mask is not None
            self.encoded, self.encoded_mask = self.encoded[chosen], self.encoded_mask[chosen]
            if self.can_join():
                # Prompts that were read together are padded on the right.
                used = self.encoded_mask.any(0).nonzero()[:, 0]
                kept = slice(int(used[0]), int(used[-1]) + 1)
                for layer in crossed[0].layers:
                    layer.keys, layer.values = layer.keys[:, :, kept], layer.values[:, :, kept]
                self.encoded, self.encoded_mask = self.encoded[:, kept], self.encoded_mask[:, kept]

    @torch.no_grad()
    def read(self, tokens: Sequence[int]) -> torch.Tensor:
        """(R,) the next token of every row to (R, K) logits of the one after, float32."""
        assert self.mask is not None
        fed = torch.tensor(tokens, device=self.mask.device)[:, None]
        self.mask = torch.cat([self.mask, torch.ones_like(fed)], 1)
        inputs: dict[str, Any] = {"past_key_values": self.cache, "use_cache": True}
        if self.encoded is None:
            inputs |= {
                "input_ids": fed,
                "attention_mask": self.mask,
                **self.model.positions(self.mask, last=1),
            }
        else:
            inputs |= {
                "decoder_input_ids": fed,
                "decoder_attention_mask": self.mask,
                "attention_mask": self.encoded_mask,
                "encoder_outputs": (self.encoded,),
            }
        return self.model.lm(**inputs).logits[:, -1].float()

    def _caches(self) -> list[Any]:
        return _caches(self.cache)


def _caches(cache: Any) -> list[Any]:
    """The cache of what was written, and of an encoder-decoder that of the prompt."""
    own = getattr(cache, "self_attention_cache", None)
    return [cache] if own is None else [own, cache.cross_attention_cache]


def _stack(first: torch.Tensor, second: torch.Tensor, dim: int) -> torch.Tensor:
    """Both along dimension 0, filled up with zeros at the beginning of `dim`."""
    length = max(first.shape[dim], second.shape[dim])

    def fill(one: torch.Tensor) -> torch.Tensor:
        return F.pad(one, [*[0, 0] * (one.ndim - 1 - dim), length - one.shape[dim], 0])

    return torch.cat([fill(first), fill(second)])


def _cut(cache: Any, mask: torch.Tensor) -> torch.Tensor:
    """Takes what no row needs off the beginning of the cache, and gives the mask that is left."""
    unused = int(mask.any(0).int().argmax())
    if unused:
        for layer in cache.layers:
            layer.keys, layer.values = layer.keys[:, :, unused:], layer.values[:, :, unused:]
    return mask[:, unused:]
