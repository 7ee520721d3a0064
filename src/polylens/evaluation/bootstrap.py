"""Percentile bootstrap: what a score could have been with other items of the same kind.

    statistics (n, K), one row per item -> resampled sums (R, K) -> `score` of each -> the middle 95%

Whatever is a function of sums over items fits: a mean is sum / count, corpus chrF adds up n-gram counts.
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13 and 16.)
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polylens.errors import UserError

RESAMPLES = 1000
CONFIDENCE = 0.95
# Bounds the memory of one block of resamples to about 32 MB.
BLOCK_ELEMENTS = 4_000_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """A score over `n` items with its 95% bootstrap interval from `low` to `high`."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] (n={self.n})"


@dataclass(frozen=True)
class Comparison:
    """How much better the first system is on the same `n` items, with interval and two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float
    n: int


def bootstrap(
    statistics: ArrayLike,
    score: Callable[[Floats], Floats],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Score:
    """`bootstrap_all` for one score."""
    return bootstrap_all(statistics, {"score": score}, seed=seed, resamples=resamples)["score"]


def bootstrap_all(
    statistics: ArrayLike,
    scores: Mapping[str, Callable[[Floats], Floats]],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Score]:
    """Each score of all items with its interval: `statistics` (n, K); a score maps sums (R, K) to (R,).

    Raises `UserError` when there are no items.
    """
    statistics_NK = _statistics(statistics)
    seen_1K, drawn_RK = statistics_NK.sum(0, keepdims=True), _resampled_sums(statistics_NK, seed, resamples)
    return {
        name: Score(float(score(seen_1K)[0]), *_interval(score(drawn_RK)), len(statistics_NK))
        for name, score in scores.items()
    }


def bootstrap_mean(
    values: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Score:
    """The mean of (n,) values and its interval; `n` counts values.

    Values of one group (one image described in 40 languages, say) are no independent evidence: with `groups`,
    whole groups are drawn.
    """
    values_N1 = _statistics(values)
    counted_N2 = np.concatenate([values_N1, np.ones_like(values_N1)], axis=1)
    if groups is not None:
        counted_N2 = _by_group(counted_N2, groups)
    mean = bootstrap(counted_N2, lambda sums: sums[:, 0] / sums[:, 1], seed=seed, resamples=resamples)
    return Score(mean.value, mean.low, mean.high, len(values_N1))


def compare_means(
    first: ArrayLike,
    second: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Paired test of mean(first) - mean(second), item by item on the same items.

    The p-value is how often a resampled difference, centred on no difference, is as large as the one seen.
    Raises `UserError` when the systems have different numbers of items, or none.
    """
    first_N1, second_N1 = _statistics(first), _statistics(second)
    if len(first_N1) != len(second_N1):
        raise UserError(
            f"Two systems with {len(first_N1)} and {len(second_N1)} items cannot be paired: score the same."
        )
    difference_N1 = first_N1 - second_N1
    counted_N2 = np.concatenate([difference_N1, np.ones_like(difference_N1)], axis=1)
    if groups is not None:
        counted_N2 = _by_group(counted_N2, groups)
    seen = float(difference_N1.mean())
    sums_R2 = _resampled_sums(counted_N2, seed, resamples)
    drawn_R = sums_R2[:, 0] / sums_R2[:, 1]
    low, high = _interval(drawn_R)
    # Rounding must not make equal differences unequal.
    as_large = np.abs(drawn_R - seen) >= abs(seen) - 1e-12
    p_value = (1 + int(as_large.sum())) / (1 + resamples)
    return Comparison(seen, low, high, p_value, len(first_N1))


def _statistics(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 0:
        raise UserError(
            "There is nothing to score: 0 items are left; check the data, its languages and its limit."
        )
    return array.reshape(len(array), -1)


def _by_group(statistics_NK: Floats, groups: Sequence[Hashable]) -> Floats:
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    summed_GK = np.zeros((len(places), statistics_NK.shape[1]))
    np.add.at(summed_GK, [places[group] for group in groups], statistics_NK)
    return summed_GK


def _resampled_sums(statistics_NK: Floats, seed: int, resamples: int) -> Floats:
    return np.concatenate(
        [weights_BN @ statistics_NK for weights_BN in _weights(len(statistics_NK), seed, resamples)]
    )


def _weights(n: int, seed: int, resamples: int) -> Iterator[Floats]:
    """How often each of n items is drawn in each resample, block by block: (B, n)."""
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK_ELEMENTS // n)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn_BN = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn_BN.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def _interval(drawn_R: Floats) -> tuple[float, float]:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn_R, [tail, 100 - tail])
    return float(low), float(high)
