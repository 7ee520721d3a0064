"""From the resampler's queries to visual tokens, as wide as the language model's embeddings.

`linear` is BLIP-2's projection, and nothing at all after a resampler whose queries are wide enough. `words` is an
ablation: each token is a mixture of the language model's own embeddings (Ovis, arXiv 2405.20797, section 3.2, mixes
rows of a table of its own). A new kind is one class and one line, an entry point of the group `polylens.projectors`.

Shapes: N pictures, Q queries each, D their width, L language model width, W words of its vocabulary.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol, Self

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from polylens.models.config import PROJECTORS, ProjectorConfig
from polylens.models.parts.resamplers import Resampler
from polylens.plugins import find_plugin

# Tokens whose logits over all words are computed at once: those of few stay in a processor's cache.
TOKENS_AT_ONCE = 256
# Words of which the scale of embeddings is taken.
SAMPLED_WORDS = 1024


class Projector(Protocol):
    """What a projector class offers: it is an `nn.Module` from (N, Q, D) queries to (N, Q, L) tokens."""

    @classmethod
    @abstractmethod
    def new(cls, resampler: Resampler, language_model: PreTrainedModel) -> nn.Module:
        """One with random weights, between these two parts."""


class LinearProjector(nn.Linear):
    """BLIP-2's projection (arXiv 2301.12597, section 3.3).

    Queries have unit variance. A new projection gives visual tokens the variance of embedded words, so that training
    starts where the language model reads.
    """

    @classmethod
    def new(cls, resampler: Resampler, language_model: PreTrainedModel) -> nn.Module:
        if resampler.projects:
            return nn.Identity()
        embed = language_model.get_input_embeddings()
        projector = cls(resampler.width, embed.weight.shape[1])
        if not embed.weight.is_meta:
            some = torch.arange(0, len(embed.weight), max(1, len(embed.weight) // SAMPLED_WORDS))
            # Embedded, and not as they are stored: Gemma scales them.
            with torch.no_grad():
                scale = float(embed(some.to(embed.weight.device)).float().std())
            nn.init.normal_(projector.weight, std=scale / resampler.width**0.5)
            nn.init.zeros_(projector.bias)
        return projector


class VisualWords(nn.Linear):
    """A linear layer, then a softmax over the language model's words: each token is a mean of their embeddings."""

    def __init__(self, width: int, words: Callable[[], nn.Embedding]) -> None:
        """`words` gives the language model's embeddings, which stay its own: they are no part of this module."""
        super().__init__(width, words().weight.shape[1])
        self._embeddings = words
        self._known: tuple[tuple[int, int], torch.Tensor] | None = None

    @classmethod
    def new(cls, resampler: Resampler, language_model: PreTrainedModel) -> Self:
        return cls(resampler.width, language_model.get_input_embeddings)

    def forward(self, queries_NQD: torch.Tensor) -> torch.Tensor:
        """(N, Q, D) to (N, Q, L): the words' embeddings, weighted by how much each token is each word."""
        return self.logits(queries_NQD).softmax(-1) @ self._words()

    def logits(self, queries_NQD: torch.Tensor) -> torch.Tensor:
        """(N, Q, W). A token that equals a word's embedding scores about sqrt(L) for it, and 0 +- 1 for others."""
        return self._compare(super().forward(queries_NQD))

    def cross_entropy(self, queries_NQD: torch.Tensor, ids_NQ: torch.Tensor) -> torch.Tensor:
        """(N, Q): how unlikely each token finds the word with that id."""
        tokens = super().forward(queries_NQD).flatten(0, 1)
        pieces = zip(tokens.split(TOKENS_AT_ONCE), ids_NQ.flatten().split(TOKENS_AT_ONCE), strict=True)
        errors = [F.cross_entropy(self._compare(some).float(), ids, reduction="none") for some, ids in pieces]
        return torch.cat(errors).view(ids_NQ.shape)

    def _compare(self, tokens: torch.Tensor) -> torch.Tensor:
        """(..., L) tokens to (..., W) logits."""
        words = self._words()
        # The tokens are scaled and not the logits, which are many more.
        return (tokens / (words.shape[1] ** 0.5 * self._variance(words))) @ words.T

    def _words(self) -> torch.Tensor:
        return self._embeddings().weight.detach()

    def _variance(self, words_WL: torch.Tensor) -> torch.Tensor:
        """The variance of all embeddings, computed once for as long as they stay the same."""
        if words_WL.is_meta or words_WL.is_inference() or self._embeddings().weight.requires_grad:
            return words_WL.float().var()
        state = words_WL.data_ptr(), words_WL._version
        if self._known is None or self._known[0] != state:
            self._known = state, words_WL.float().var()
        return self._known[1]


def new_projector(
    config: ProjectorConfig, resampler: Resampler, language_model: PreTrainedModel
) -> nn.Module:
    """A projector of the kind that `config` names, with random weights."""
    kind: type[Projector] = find_plugin(config.kind, "projector", PROJECTORS)
    return kind.new(resampler, language_model)
