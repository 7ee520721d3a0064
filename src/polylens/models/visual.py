"""Visual tokens, computed once for each picture or given in its place: what all families of models do alike.

Shapes: N pictures, Q visual tokens each, L language model width.
"""

from collections.abc import Callable, Mapping, Sequence, Sized

import torch

from polylens.data.sample import Picture, Sample
from polylens.errors import UserError

# By picture key, (Q, L) each, or (N, Q, L) in the order of the samples' pictures.
Visual = Mapping[str, torch.Tensor] | torch.Tensor


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
    """`visual`, if it fits the pictures and each is of `shape` (Q, L). Raises `UserError` if it does not."""
    given = [visual] if isinstance(visual, torch.Tensor) else list(visual.values())
    wrong = next((tuple(tokens.shape) for tokens in given if tuple(tokens.shape[-2:]) != shape), None)
    if wrong:
        raise UserError(
            f"The visual tokens given are {wrong}, but this model's are {shape} for each picture."
        )
    if isinstance(visual, torch.Tensor):
        if visual.ndim != 3 or len(visual) != len(pictures):
            raise UserError(f"{len(visual)} pictures' visual tokens are given for {len(pictures)} pictures.")
    else:
        missing = next((picture.key for picture in pictures if picture.key not in visual), None)
        if missing is not None:
            raise UserError(f"No visual tokens are given for the picture '{missing}': encode it first.")
    return visual


def tokens_of(samples: Sequence[Sample], visual: Visual, first: int = 0) -> torch.Tensor | None:
    """(N, Q, L) of the samples' pictures, in order; `first` is the place of the first of them in a tensor.

    None where the samples have no picture.
    """
    pictures = [picture for sample in samples for picture in sample.images]
    if not pictures:
        return None
    if isinstance(visual, torch.Tensor):
        return visual[first : first + len(pictures)]
    return torch.stack([visual[picture.key] for picture in pictures])


def check_candidates(samples: Sized, candidates: Sequence[Sequence[str]]) -> None:
    """Raises `UserError` unless there is a list of candidates for each sample."""
    if len(samples) != len(candidates):
        raise UserError(
            f"{len(samples)} samples, but {len(candidates)} lists of candidates: give one for each."
        )
