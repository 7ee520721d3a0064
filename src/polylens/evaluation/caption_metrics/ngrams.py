"""Counts of 1- to 4-grams of many captions at once, as sorted arrays instead of a dictionary per caption."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_ORDER = 4

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class NgramCounts:
    """All n-grams of one order: entry e says that caption `caption[e]` has n-gram `gram[e]` `count[e]` times.

    Entries are sorted by caption, then n-gram; n-grams are numbered from 0 to `num_grams` - 1.
    """

    caption: Ints
    gram: Ints
    count: Ints
    num_grams: int


def ngram_counts(captions: Sequence[Sequence[str]]) -> Iterator[NgramCounts]:
    """For each order 1 to 4, the counts of all captions."""
    numbers: dict[str, int] = {}
    words = np.array(
        [numbers.setdefault(word, len(numbers)) for caption in captions for word in caption], dtype=np.int64
    )
    lengths = np.array([len(caption) for caption in captions], dtype=np.int64)
    caption = np.repeat(np.arange(len(captions)), lengths)
    # How many words are left in the caption from each place on, so that no n-gram crosses into the next one.
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(words))
    gram, num_grams = words, max(len(numbers), 1)
    starts = np.arange(len(words))
    for order in range(1, MAX_ORDER + 1):
        if order > 1:
            keep = left[starts] >= order
            starts = starts[keep]
            # An n-gram is the (n-1)-gram before it and its last word.
            pairs = gram[keep] * max(len(numbers), 1) + words[starts + order - 1]
            seen, gram = np.unique(pairs, return_inverse=True)
            num_grams = max(len(seen), 1)
        keys, count = np.unique(caption[starts] * num_grams + gram, return_counts=True)
        yield NgramCounts(keys // num_grams, keys % num_grams, count, num_grams)
