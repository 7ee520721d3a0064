"""Visual tokens as mixtures of the language model's own words.

A language model that was never shown a picture reads a mixture of "cat", "gato" and "kitten" much as it reads a word,
in every language it knows; of a free vector that some loss has pulled out of its words in one language, it may
understand little in the others. (Ovis, arXiv 2405.20797, mixes rows of a table of its own in the same way.)

Shapes: N pictures, Q visual tokens each, L language model width, W words of its vocabulary.
"""

import torch


def word_logits(tokens_NQL: torch.Tensor, embeddings_WL: torch.Tensor) -> torch.Tensor:
    """(N, Q, W): how much each token is each word.

    A token that equals a word's embedding scores about sqrt(L) for it, and about 0 +- 1 for the others.
    """
    words = embeddings_WL.detach()
    # The tokens are scaled and not the logits, which are many more.
    return (tokens_NQL / (words.shape[1] ** 0.5 * words.float().var())) @ words.T


def as_words(tokens_NQL: torch.Tensor, embeddings_WL: torch.Tensor) -> torch.Tensor:
    """(N, Q, L): each token replaced by the mean of the words' embeddings, weighted by how much it is each of them."""
    return word_logits(tokens_NQL, embeddings_WL).softmax(-1) @ embeddings_WL.detach()
