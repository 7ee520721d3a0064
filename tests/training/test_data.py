from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from polylens.training.data import Order, chunks


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 4), st.integers(0, 2**40))
def test_every_epoch_shows_every_sample_once(num_samples, batch_size, epochs, seed):
    order = Order(num_samples, batch_size, seed)
    drawn = [pair for step in range(order.steps(epochs)) for pair in order.batch(step)]
    counts = Counter(pair for pair in drawn if pair[1] < epochs)
    assert counts == Counter((number, epoch) for number in range(num_samples) for epoch in range(epochs))


@given(st.integers(0, 1000), st.integers(0, 2**40))
def test_a_batch_does_not_depend_on_those_before_it(step, seed):
    through = Order(17, 5, seed)
    for earlier in range(max(0, step - 3), step):
        through.batch(earlier)
    assert through.batch(step) == Order(17, 5, seed).batch(step)


def test_epochs_and_seeds_give_other_orders():
    def epoch(seed, number):
        return [sample for sample, _ in Order(50, 50, seed).batch(number)]

    assert epoch(0, 0) != epoch(0, 1)
    assert epoch(0, 0) != epoch(1, 0)


def test_parts_of_epochs_are_rounded_up_to_whole_batches():
    order = Order(100, 8, 0)
    assert [order.steps(epochs) for epochs in (0.001, 0.5, 1, 2)] == [1, 7, 13, 25]


def test_chunks():
    assert chunks([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]
    assert chunks([1, 2, 3], None) == [[1, 2, 3]]
