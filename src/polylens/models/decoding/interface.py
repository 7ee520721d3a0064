"""What reading, scoring, searching and conversations ask of a model; `VisionLanguageModel` has all of it.

Shapes: B prompts, T tokens, L language model width.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polylens.data.collate import Batch, Collator
from polylens.data.layout import Layout
from polylens.data.sample import Picture, Sample


class HasLayout(Protocol):
    """A config that says how prompts and answers are put in a row."""

    layout: Layout


class Seeing(Protocol):
    """A model that a conversation can be had with."""

    @property
    def config(self) -> HasLayout: ...

    def encode_pictures(self, pictures: Sequence[Picture]) -> Mapping[str, torch.Tensor]:
        """Visual tokens of every distinct picture, by its key."""


class Decodable(Protocol):
    """A language model of transformers that reads batches with visual tokens among the text tokens."""

    tokenizer: PreTrainedTokenizerBase

    @property
    def lm(self) -> PreTrainedModel: ...

    @property
    def is_encoder_decoder(self) -> bool: ...

    @property
    def num_image_tokens(self) -> int:
        """The places that one picture takes among the text tokens."""

    @property
    def decoder_start(self) -> int:
        """The token that an encoder-decoder's answers begin after."""

    def collator(self, *, with_pictures: bool) -> Collator:
        """The collator of the model's layout, which loads pictures if asked to."""

    def visual_batch(self, samples: Sequence[Sample], visual: Mapping[str, torch.Tensor]) -> Batch:
        """A batch to answer, with the visual tokens of its pictures."""

    def embed(self, batch: Batch) -> torch.Tensor:
        """(B, T, L) embeddings of a batch's text and visual tokens."""

    def positions(self, attention_mask: torch.Tensor, last: int | None = None) -> dict[str, torch.Tensor]:
        """Position ids of the (last) tokens under a mask (B, T), where the language model takes them."""

    def logits_at(self, rows: torch.Tensor) -> AbstractContextManager[None]:
        """Inside, the language model computes logits only for the states at `rows` (B, T) bool."""
