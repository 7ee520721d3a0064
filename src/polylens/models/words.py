"""Visual tokens as mixtures of the language model's own words.

A language model that was never shown a picture reads a mixture of "cat", "gato" and "kitten" much as it reads a word,
in every language it knows; of a free vector that some loss has pulled out of its words in one language, it may
understand little in the others. (Ovis, arXiv 2405.20797, mixes rows of a table of its own in the same way.)

Shapes: N pictures, Q visual tokens each, L language model width, W words of its vocabulary.
"""

import torch
from torch.nn import functional as F

# Tokens whose logits over all words are worked on at once: those of few stay in a processor's cache.
TOKENS_AT_ONCE = 256


class VisualWords:
    """Turns tokens into mixtures of words. The variance of frozen words, their scale, is computed once."""

    def __init__(self) -> None:
        self._frozen: tuple[tuple[int, int], torch.Tensor] | None = None

    def _variance(self, embeddings_WL: torch.Tensor) -> torch.Tensor:
        if embeddings_WL.requires_grad or embeddings_WL.is_meta or embeddings_WL.is_inference():
            return embeddings_WL.detach().float().var()
        state = embeddings_WL.data_ptr(), embeddings_WL._version
        if self._frozen is None or self._frozen[0] != state:
            self._frozen = state, embeddings_WL.float().var()
        return self._frozen[1]

    def logits(self, tokens_NQL: torch.Tensor, embeddings_WL: torch.Tensor) -> torch.Tensor:
        """(N, Q, W): how much each token is each word.

        A token that equals a word's embedding scores about sqrt(L) for it, and about 0 +- 1 for the others.
        """
        words, variance = embeddings_WL.detach(), self._variance(embeddings_WL)
        # The tokens are scaled and not the logits, which are many more.
        return (tokens_NQL / (words.shape[1] ** 0.5 * variance)) @ words.T

    def mixed(self, tokens_NQL: torch.Tensor, embeddings_WL: torch.Tensor) -> torch.Tensor:
        """(N, Q, L): each token replaced by the mean of the words' embeddings, weighted by how much it is each."""
        return self.logits(tokens_NQL, embeddings_WL).softmax(-1) @ embeddings_WL.detach()

    def cross_entropy(
        self, tokens_NQL: torch.Tensor, embeddings_WL: torch.Tensor, ids_NQ: torch.Tensor
    ) -> torch.Tensor:
        """(N, Q): how unlikely each token finds the word of that id."""
        pieces = zip(
            tokens_NQL.flatten(0, 1).split(TOKENS_AT_ONCE),
            ids_NQ.flatten().split(TOKENS_AT_ONCE),
            strict=True,
        )
        errors = [
            F.cross_entropy(self.logits(tokens, embeddings_WL).float(), ids, reduction="none")
            for tokens, ids in pieces
        ]
        return torch.cat(errors).view(ids_NQ.shape)
