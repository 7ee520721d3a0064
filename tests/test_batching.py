import threading

import pytest

from polylens.batching import chunks, read_ahead


def test_chunks():
    assert chunks([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]
    assert chunks([1, 2, 3], None) == [[1, 2, 3]]


def test_the_next_item_is_read_while_one_is_used():
    begun = {number: threading.Event() for number in range(5)}

    def read(number):
        begun[number].set()
        return number * 10

    found = []
    for number, given in read_ahead(range(5), read):
        assert number == 4 or begun[number + 1].wait(timeout=30)
        assert number > 2 or not begun[number + 2].is_set()
        found.append((number, given))
    assert found == [(number, number * 10) for number in range(5)]
    assert list(read_ahead([], read)) == []


def test_an_error_comes_at_its_place():
    found = []
    with pytest.raises(ZeroDivisionError):
        found.extend(iter(read_ahead([2, 1, 0, 4], lambda number: 4 // number)))
    assert found == [(2, 2), (1, 4)]
