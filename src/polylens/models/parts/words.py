"""Visual tokens as mixtures of the language model's own words, and of captions that it can read.

A language model that was never shown a picture reads a mixture of "cat", "gato" and "kitten" much as it reads a word,
in every language it knows; of a free vector that some loss has pulled out of its words in one language, it may
understand little in the others. (Ovis, arXiv 2405.20797, mixes rows of a table of its own in the same way.)

Each token for itself, they need not say one thing: the first may be the "hot" of "hot dog" and the second the "ring"
of "ear ring". With a memory of captions they agree: every caption gets what all tokens hold of it together. In training
each token becomes the mixture of the words that these captions have at its place, and what fits none of them stays as
it is; answers are read from the likeliest captions, one by one (models/readings.py).
(DeCap, arXiv 2303.03032, projects pictures onto a memory of texts for a language model that has read texts alone.)

Shapes: N pictures, Q visual tokens each, L language model width, W words: of its vocabulary, or of the M captions in
memory.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from polylens.data.collate import Collator
from polylens.errors import UserError

# A memory of more would be slower than the language model's whole vocabulary.
MAX_CAPTIONS = 2**16
# How much less likely than the tokens find themselves it is, in nats, that they say no caption in memory. At 0 those in
# memory lose by it; at 2 what is not in it is lost (Picto's validation split).
NONE_OF_THEM = 1.0

# The likeliest captions that answers are read from: each of them adds to what is chosen right, twelve no more than
# eight (Picto's validation split).
READINGS = 8

# Tokens whose logits over all words are worked on at once: those of few stay in a processor's cache.
TOKENS_AT_ONCE = 256


def repeated(ids: Sequence[int], count: int) -> list[int]:
    """The first `count` of the tokens, said again and again: how visual tokens say a caption."""
    return [ids[at % len(ids)] for at in range(count)]


def memory_ids(captions: Sequence[str], collator: Collator) -> list[list[int]]:
    """The words (M, Q) that visual tokens say each distinct caption with.

    Raises `UserError` when there are no captions, more than `MAX_CAPTIONS`, or one without a token.
    """
    if not 1 <= len(captions) <= MAX_CAPTIONS:
        raise UserError(
            f"model.memory has {len(captions):,} captions and must have 1 to {MAX_CAPTIONS:,}: list the commonest, or "
            "leave it out."
        )
    said = set()
    for caption, ids in collator.all_answer_ids(captions).items():
        words = [each for each in ids if each != collator.tokenizer.eos_token_id]
        if not words:
            raise UserError(f"The caption '{caption}' in model.memory has no token: take it out.")
        said.add(tuple(repeated(words, collator.num_image_tokens)))
    return [list(words) for words in sorted(said)]


class VisualWords(nn.Module):
    """Turns tokens into mixtures of words. Without a memory these are all words of the vocabulary."""

    words_W: torch.Tensor | None
    memory_MQ: torch.Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("words_W", None, persistent=False)
        self.register_buffer("memory_MQ", None, persistent=False)
        self._frozen: tuple[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] | None = None

    @property
    def remembers(self) -> bool:
        """Whether there are captions in memory."""
        return self.memory_MQ is not None

    def remember(self, ids_MQ: torch.Tensor) -> None:
        """Agree on these captions from now on, given as the words that their tokens say."""
        self.words_W, self.memory_MQ = ids_MQ.unique(return_inverse=True)
        self._frozen = None

    def check_known(self, ids_NQ: torch.Tensor, names: Sequence[str]) -> None:
        """Raises `UserError` with the name of the first of N answers that has words which no caption in memory has."""
        if self.words_W is None:
            return
        known = torch.isin(ids_NQ, self.words_W).all(1)
        if not known.all():
            raise UserError(
                f"The answer of sample '{names[int(known.int().argmin())]}' has words that no caption in model.memory "
                "has, so the objective 'embeddings' cannot measure it: add it to the memory, or leave the sample out."
            )

    def _known(self, embeddings_VL: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The embeddings (W, L) of the words that tokens may be, and the variance of all words, their scale; of frozen
        words they are found once.
        """
        if embeddings_VL.requires_grad or embeddings_VL.is_meta or embeddings_VL.is_inference():
            return self._select(embeddings_VL)
        state = embeddings_VL.data_ptr(), embeddings_VL._version
        if self._frozen is None or self._frozen[0] != state:
            self._frozen = state, self._select(embeddings_VL)
        return self._frozen[1]

    def _select(self, embeddings_VL: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embeddings = embeddings_VL.detach()
        return (embeddings if self.words_W is None else embeddings[self.words_W]), embeddings.float().var()

    def logits(self, tokens_NQL: torch.Tensor, embeddings_VL: torch.Tensor) -> torch.Tensor:
        """(N, Q, W): how much each token is each word.

        A token that equals a word's embedding scores about sqrt(L) for it, and about 0 +- 1 for the others.
        """
        return _logits(tokens_NQL, *self._known(embeddings_VL))

    def mixed(self, tokens_NQL: torch.Tensor, embeddings_VL: torch.Tensor) -> torch.Tensor:
        """(N, Q, L): each token replaced by the mean of the words' embeddings, weighted by how much it is each."""
        words, variance = self._known(embeddings_VL)
        logits = _logits(tokens_NQL, words, variance)
        return (logits.softmax(-1) if self.memory_MQ is None else self._agreed(logits)) @ words

    def likeliest(
        self, tokens_NQL: torch.Tensor, embeddings_VL: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, J) the likeliest captions in memory, and the logs of their shares."""
        assert self.memory_MQ is not None
        words, variance = self._known(embeddings_VL)
        captions_NM = self._captions(_logits(tokens_NQL, words, variance).float().log_softmax(-1))
        shares_NJ, captions_NJ = captions_NM.topk(min(READINGS, len(self.memory_MQ)))
        return captions_NJ, shares_NJ.log_softmax(-1)

    def said(self, captions_N: torch.Tensor, embeddings_VL: torch.Tensor) -> torch.Tensor:
        """(N, Q, L): the words of captions in memory."""
        assert self.memory_MQ is not None
        words, _ = self._known(embeddings_VL)
        return words[self.memory_MQ[captions_N]]

    def _captions(self, likely_NQW: torch.Tensor) -> torch.Tensor:
        """(N, M): the mean log-probability of every caption's words: a mean and no sum, since tokens err together, and
        Q of them are no more evidence than one.
        """
        assert self.memory_MQ is not None
        places = zip(likely_NQW.unbind(1), self.memory_MQ.unbind(1), strict=True)
        return torch.stack([likely.index_select(1, words) for likely, words in places]).mean(0)

    def _agreed(self, logits_NQW: torch.Tensor) -> torch.Tensor:
        """(N, Q, W): the shares of the words that captions in memory have at each place, and of the tokens' own.

        That they say none of these captions counts as one more, with what the tokens expect of themselves.
        """
        assert self.memory_MQ is not None
        likely_NQW = logits_NQW.float().log_softmax(-1)
        own_NQW = likely_NQW.exp()
        captions_NM = self._captions(likely_NQW)
        none_N1 = (own_NQW * likely_NQW).sum(-1).mean(1, keepdim=True) - NONE_OF_THEM
        captions_NM, none_N1 = (
            torch.cat([captions_NM, none_N1], 1).softmax(-1).split([len(self.memory_MQ), 1], 1)
        )
        places = zip(likely_NQW.unbind(1), self.memory_MQ.unbind(1), strict=True)
        said = [torch.zeros_like(likely).index_add(1, words, captions_NM) for likely, words in places]
        return (torch.stack(said, 1) + none_N1[..., None] * own_NQW).to(logits_NQW.dtype)

    def cross_entropy(
        self, tokens_NQL: torch.Tensor, embeddings_VL: torch.Tensor, ids_NQ: torch.Tensor
    ) -> torch.Tensor:
        """(N, Q): how unlikely each token finds the word of that id, which must be known (`check_known`)."""
        places = ids_NQ if self.words_W is None else torch.searchsorted(self.words_W, ids_NQ)
        pieces = zip(
            tokens_NQL.flatten(0, 1).split(TOKENS_AT_ONCE),
            places.flatten().split(TOKENS_AT_ONCE),
            strict=True,
        )
        known = self._known(embeddings_VL)
        errors = [
            F.cross_entropy(_logits(tokens, *known).float(), ids, reduction="none") for tokens, ids in pieces
        ]
        return torch.cat(errors).view(ids_NQ.shape)


def _logits(tokens: torch.Tensor, words_WL: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """(..., W) of tokens (..., L)."""
    # The tokens are scaled and not the logits, which are many more.
    return (tokens / (words_WL.shape[1] ** 0.5 * variance)) @ words_WL.T
