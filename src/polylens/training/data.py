"""The order of the data: a pure function of seed and step, so that a position in it is one number."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Order:
    """An endless stream of sample numbers, every epoch in a new order, cut into batches.

    Batches go on across the end of an epoch, so all have the same size. Nothing is drawn one after the other:
    the batch of step s is the same whether or not the steps before it were run in this process.
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int):
        self.num_samples, self.batch_size = num_samples, batch_size

        @lru_cache(maxsize=2)
        def permutation(epoch: int) -> np.ndarray:
            return np.random.default_rng([seed, epoch]).permutation(num_samples)

        self._permutation = permutation

    def batch(self, step: int) -> list[tuple[int, int]]:
        """(sample number, epoch) of every sample of step `step`, counted from 0."""
        start = step * self.batch_size
        epochs = (divmod(position, self.num_samples) for position in range(start, start + self.batch_size))
        return [(int(self._permutation(epoch)[offset]), epoch) for epoch, offset in epochs]

    def steps(self, epochs: float) -> int:
        """How many batches show every sample `epochs` times."""
        return max(1, math.ceil(epochs * self.num_samples / self.batch_size))


def chunks(items: Sequence[T], size: int | None) -> list[Sequence[T]]:
    """`items` in pieces of `size`, the last may be shorter; one piece if `size` is None."""
    size = size or len(items)
    return [items[start : start + size] for start in range(0, len(items), size)]
