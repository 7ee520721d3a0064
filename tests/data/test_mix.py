"""The order of a mix: a pure function of seed and position."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polylens.data.mix import Mix, MixPart, Order
from polylens.errors import UserError


def order(num_samples, batch_size, seed):
    return Mix.of(range(num_samples)).order(batch_size, seed)


def mix(*parts):
    """Parts as (size, weight)."""
    return Mix([MixPart(f"part{i}", range(size), weight) for i, (size, weight) in enumerate(parts)])


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 4), st.integers(0, 2**40))
def test_every_epoch_shows_every_sample_once(num_samples, batch_size, epochs, seed):
    chosen = order(num_samples, batch_size, seed)
    drawn = [pair for step in range(chosen.steps(epochs)) for pair in chosen.batch(step)]
    counts = Counter(pair for pair in drawn if pair[1] < epochs)
    assert counts == Counter((number, epoch) for number in range(num_samples) for epoch in range(epochs))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(0, 2**40))
def test_without_weights_parts_are_as_if_in_one_list(sizes, seed):
    chosen = mix(*((size, None) for size in sizes)).order(7, seed)
    drawn = [pair for step in range(chosen.steps(3)) for pair in chosen.batch(step)]
    counts = Counter(number for number, epoch in drawn[: 3 * sum(sizes)])
    assert counts == Counter(dict.fromkeys(range(sum(sizes)), 3))


@given(st.integers(0, 1000), st.integers(0, 2**40))
def test_a_batch_does_not_depend_on_those_before_it(step, seed):
    parts = ((17, 1.0), (5, 3.0), (40, 0.5))
    through = mix(*parts).order(5, seed)
    for earlier in range(max(0, step - 3), step):
        through.batch(earlier)
    assert through.batch(step) == mix(*parts).order(5, seed).batch(step)


def test_the_order_of_one_part_stays_what_it_was():
    """Runs that were trained before there were mixes can be repeated."""
    permutation = np.random.default_rng([3, 1]).permutation(10)
    assert order(10, 10, 3).batch(1) == [(int(number), 1) for number in permutation]


def test_epochs_and_seeds_give_other_orders():
    def epoch(seed, number):
        return [sample for sample, _ in order(50, 50, seed).batch(number)]

    assert epoch(0, 0) != epoch(0, 1)
    assert epoch(0, 0) != epoch(1, 0)


def test_parts_of_epochs_are_rounded_up_to_whole_batches():
    chosen = order(100, 8, 0)
    assert [chosen.steps(epochs) for epochs in (0.001, 0.5, 1, 2)] == [1, 7, 13, 25]


@given(
    st.lists(st.tuples(st.integers(10, 50), st.floats(0.5, 4)), min_size=1, max_size=5),
    st.integers(0, 2**40),
)
def test_weights_are_shares_of_an_epoch(parts, seed):
    chosen = mix(*parts).order(sum(size for size, _ in parts), seed)
    ends = np.cumsum([size for size, _ in parts])
    total = sum(weight for _, weight in parts)
    for epoch in range(3):
        owners = Counter(int(np.searchsorted(ends, number, "right")) for number, _ in chosen.batch(epoch))
        for i, (_, weight) in enumerate(parts):
            assert abs(owners[i] - ends[-1] * weight / total) < 1


@given(st.integers(1, 6), st.integers(0, 2**40))
def test_each_part_goes_through_all_its_samples_before_it_repeats_one(epochs, seed):
    chosen = mix((30, 1.0), (10, 2.0)).order(40, seed)
    drawn = [pair for step in range(epochs) for pair in chosen.batch(step)]
    for first, size in ((0, 30), (30, 10)):
        mine = [pair for pair in drawn if first <= pair[0] < first + size]
        for lap in range(len(mine) // size):
            piece = mine[lap * size : (lap + 1) * size]
            assert {epoch for _, epoch in piece} == {lap}
            assert {number for number, _ in piece} == set(range(first, first + size))


def test_a_weight_that_draws_nothing_is_refused():
    with pytest.raises(UserError, match="weight 1e-06 of 'part0' draws none"):
        mix((5, 1e-6), (5, 1.0)).order(4, 0)


def test_a_mix_is_its_parts_one_after_the_other():
    both = Mix([MixPart("a", ["x", "y"]), MixPart("b", ["z"])])
    assert list(both) == ["x", "y", "z"]
    assert both[-1] == "z"
    assert both[:2] == ["x", "y"]
    with pytest.raises(IndexError):
        both[3]
    assert Mix.of(both) is both
    assert isinstance(both.order(1, 0), Order)
