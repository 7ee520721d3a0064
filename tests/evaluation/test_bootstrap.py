import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polylens.errors import UserError
from polylens.evaluation.bootstrap import bootstrap, bootstrap_mean, compare_means


def test_interval_of_all_resamples_worked_by_hand():
    # Every one of the 27 resamples of 3 items is equally likely: 0 successes 8/27, 1 12/27, 2 6/27, 3 1/27.
    score = bootstrap_mean([0, 0, 1], resamples=20_000)
    assert (score.value, score.n) == (pytest.approx(1 / 3), 3)
    means = sorted(np.mean(draw) for draw in itertools.product([0, 0, 1], repeat=3))
    assert (score.low, score.high) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.35)
    assert score.low == 0


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(300):
        score = bootstrap_mean(rng.normal(5, 2, 100), seed=seed, resamples=500)
        hits += score.low <= 5 <= score.high
    assert 0.91 <= hits / 300 <= 0.98


def test_normal_data_give_the_normal_interval():
    values = np.random.default_rng(1).normal(0, 1, 4000)
    score = bootstrap_mean(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (score.high - score.low) / 2 == pytest.approx(half, rel=0.05)


def test_the_seed_decides():
    values = np.random.default_rng(2).random(50)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_blocks_do_not_change_the_draw(monkeypatch):
    values = np.random.default_rng(3).random(70)
    whole = bootstrap_mean(values)
    monkeypatch.setattr("polylens.evaluation.bootstrap.BLOCK_ELEMENTS", 1000)
    assert bootstrap_mean(values) == whole


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_the_interval_lies_within_the_values(values):
    score = bootstrap_mean(values, resamples=200)
    assert min(values) - 1e-6 <= score.low <= score.high <= max(values) + 1e-6
    assert score.n == len(values)


def test_groups_are_drawn_whole():
    values = np.repeat(np.random.default_rng(4).random(40), 25)
    groups = [f"image {i // 25}" for i in range(1000)]
    single, grouped = bootstrap_mean(values), bootstrap_mean(values, groups)
    assert single.value == pytest.approx(grouped.value)
    assert single.n == grouped.n == 1000
    assert (grouped.high - grouped.low) == pytest.approx(5 * (single.high - single.low), rel=0.15)


def test_any_function_of_sums():
    statistics = np.array([[1.0, 2.0], [3.0, 4.0]])
    score = bootstrap(statistics, lambda sums: sums[:, 0] / sums[:, 1])
    assert score.value == pytest.approx(4 / 6)
    assert (score.low, score.high) == (0.5, 0.75)


def test_paired_tests_see_what_unpaired_ones_do_not():
    rng = np.random.default_rng(5)
    hardness = rng.normal(0, 10, 300)
    first, second = hardness + rng.normal(0.3, 0.5, 300), hardness + rng.normal(0, 0.5, 300)
    paired = compare_means(first, second)
    assert paired.low > 0
    assert paired.p_value < 0.01
    assert bootstrap_mean(first).low < bootstrap_mean(second).value
    swapped = compare_means(second, first)
    assert (swapped.difference, swapped.low, swapped.high) == pytest.approx(
        (-paired.difference, -paired.high, -paired.low)
    )
    assert swapped.p_value == paired.p_value


def test_p_values_without_a_difference_are_spread_evenly():
    rng = np.random.default_rng(6)
    p_values = [
        compare_means(rng.random(60), rng.random(60), seed=seed, resamples=400).p_value for seed in range(300)
    ]
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.09
    assert compare_means([1, 2, 3], [1, 2, 3]).p_value == 1.0


def test_mistakes_are_named():
    with pytest.raises(UserError, match="0 items"):
        bootstrap_mean([])
    with pytest.raises(UserError, match="2 and 1 items cannot be paired"):
        compare_means([1, 2], [1])


def test_a_hundred_thousand_items_are_quick():
    values = np.random.default_rng(7).random(100_000)
    start = time.process_time()
    bootstrap_mean(values)
    assert time.process_time() - start < 20
