"""Visual tokens by picture: computed once for each, or given in its place. All families of models share this.

Shapes: N pictures, Q visual tokens each, L language model width.
"""

from collections.abc import Callable, Mapping, Sequence, Sized

import torch

from polylens.data.sample import Picture, Sample
from polylens.errors import UserError

# (Q, L) by picture key.
Visual = Mapping[str, torch.Tensor]


def encode_distinct(
    pictures: Sequence[Picture], batch_size: int, encode: Callable[[Sequence[Picture]], torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Visual tokens (Q, L) of every distinct picture, by its key; `encode` gives those of one batch (n, Q, L)."""
    distinct = list({picture.key: picture for picture in pictures}.values())
    tokens: dict[str, torch.Tensor] = {}
    for start in range(0, len(distinct), batch_size):
        chunk = distinct[start : start + batch_size]
        tokens.update(zip((picture.key for picture in chunk), encode(chunk), strict=True))
    return tokens


def check_given(pictures: Sequence[Picture], visual: Visual, shape: tuple[int, int]) -> Visual:
    """`visual`, if it has every picture in the given `shape` (Q, L). Raises `UserError` if it does not."""
    for picture in pictures:
        if picture.key not in visual:
            raise UserError(f"No visual tokens are given for the picture '{picture.key}': encode it first.")
        found = tuple(visual[picture.key].shape)
        if found != shape:
            raise UserError(
                f"The visual tokens of the picture '{picture.key}' are {found}, but this model's are {shape}: "
                "encode it with this model."
            )
    return visual


def tokens_of(samples: Sequence[Sample], visual: Visual) -> torch.Tensor | None:
    """(N, Q, L) of the samples' pictures, in order; None where they have no picture."""
    tokens = [visual[picture.key] for sample in samples for picture in sample.images]
    return torch.stack(tokens) if tokens else None


def check_candidates(samples: Sized, candidates: Sequence[Sequence[str]]) -> None:
    """Raises `UserError` unless there is a list of candidates for each sample."""
    if len(samples) != len(candidates):
        raise UserError(
            f"{len(samples)} samples, but {len(candidates)} lists of candidates: give one for each."
        )
