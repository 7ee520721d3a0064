"""How sure a model is of what it said: the probability that it gives to its own answer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from polylens.data.sample import Sample

# Of a model that registers no threshold: its mean token is less likely than not.
LOW_TOKEN = 0.5


@dataclass(frozen=True)
class Confidence:
    """`probability`: P(answer | pictures, prompt), the product over the answer's tokens, its end included.

    `token_probability`: the geometric mean over these tokens, which does not fall with the length of the answer.
    """

    probability: float
    token_probability: float

    def is_low(self, sure: float | None = None) -> bool:
        """Whether the answer is doubtful: less probable than `sure` as a whole, or by its mean token without one."""
        return self.token_probability < LOW_TOKEN if sure is None else self.probability < sure


def confidences(
    model: Any, samples: Sequence[Sample], texts: Sequence[str], visual: Mapping[str, torch.Tensor]
) -> list[Confidence | None]:
    """The model's confidence in each text as the answer to its sample; None for an empty text.

    `visual` are the visual tokens of the samples' pictures, by key. The texts are read anew, so that beams, penalties
    and white space around an answer play no part.
    """
    said = [place for place, text in enumerate(texts) if text]
    scores = model.score(
        [samples[place] for place in said], [[texts[place]] for place in said], visual=visual
    )
    found: list[Confidence | None] = [None] * len(texts)
    for place, [log_probability] in zip(said, scores, strict=True):
        tokens = 1 + model.num_tokens(texts[place])
        found[place] = Confidence(math.exp(log_probability), math.exp(log_probability / tokens))
    return found
