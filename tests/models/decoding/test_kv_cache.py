"""Keys and values with room against transformers' own layers: whatever is done to both, they hold the same."""

import copy

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from polylens.models.decoding.kv_cache import ROOM, RoomyLayer, give_room

HEADS, WIDTH, NUM_LAYERS = 2, 3, 3

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, ROOM + 2)),
        st.tuples(st.just("select"), st.lists(st.integers(0, 99), min_size=1, max_size=9)),
        st.tuples(st.just("crop"), st.integers(1, 3)),
        st.tuples(st.just("repeat"), st.integers(1, 2)),
        st.tuples(st.just("copy"), st.none()),
        st.tuples(st.just("reorder"), st.none()),
        st.tuples(st.just("reset"), st.integers(1, 9)),
    ),
    max_size=8,
)


def states(rows: int, tokens: int, layer: int) -> torch.Tensor:
    return torch.randn(2, rows, HEADS, tokens, WIDTH + layer % 2)


def caches(rows: int, tokens: int) -> tuple[DynamicCache, DynamicCache]:
    """One of transformers, and one with room, after the same prompt."""
    plain = DynamicCache()
    for layer in range(NUM_LAYERS):
        plain.update(*states(rows, tokens, layer), layer)
    roomy = copy.deepcopy(plain)
    give_room(roomy)
    assert all(isinstance(layer, RoomyLayer) for layer in roomy.layers)
    return plain, roomy


def assert_alike(plain: DynamicCache, roomy: DynamicCache) -> None:
    for theirs, ours in zip(plain.layers, roomy.layers, strict=True):
        assert torch.equal(theirs.keys, ours.keys)
        assert torch.equal(theirs.values, ours.values)


@given(STEPS, st.integers(1, 4), st.integers(4, 9))
@settings(max_examples=60, deadline=None)
def test_it_holds_what_a_plain_cache_holds(steps: list, rows: int, tokens: int) -> None:
    torch.manual_seed(0)
    plain, roomy = caches(rows, tokens)
    for name, argument in steps:
        if name == "append":
            for layer in range(NUM_LAYERS):
                new = states(rows, argument, layer)
                expected, found = plain.update(*new, layer), roomy.update(*new, layer)
                assert torch.equal(expected[0], found[0])
                assert torch.equal(expected[1], found[1])
        elif name == "crop":
            plain.crop(-min(argument, plain.get_seq_length() - 1))
            roomy.crop(-min(argument, roomy.get_seq_length() - 1))
        elif name == "copy":
            roomy = copy.deepcopy(roomy)
        elif name == "reorder":
            for cache in (plain, roomy):
                cache.reorder_cache(torch.arange(rows).flip(0))
        elif name == "reset":
            plain.reset()
            roomy.reset()
            for layer in range(NUM_LAYERS):
                new = states(rows, argument, layer)
                plain.update(*new, layer)
                roomy.update(*new, layer)
        else:
            if name == "repeat":
                chosen = [row for row in range(rows) for _ in range(argument)]
                plain.batch_repeat_interleave(argument)
                roomy.batch_repeat_interleave(argument)
            else:
                chosen = [row % rows for row in argument]
                plain.batch_select_indices(torch.tensor(chosen))
                roomy.batch_select_indices(torch.tensor(chosen))
            rows = len(chosen)
        assert_alike(plain, roomy)


def test_a_copy_grows_on_its_own():
    _, roomy = caches(2, 4)
    roomy.update(*states(2, 1, 0), 0)
    other = copy.deepcopy(roomy)
    for cache in (roomy, other):
        cache.update(*states(2, 1, 0), 0)
    assert not torch.equal(roomy.layers[0].keys, other.layers[0].keys)
    assert torch.equal(roomy.layers[0].keys[:, :, :5], other.layers[0].keys[:, :, :5])


def test_a_token_is_written_in_place_and_beams_change_places_with_one_spare_buffer():
    _, roomy = caches(4, 4)
    for layer in range(NUM_LAYERS):
        roomy.update(*states(4, 1, layer), layer)
    before = {layer.keys.data_ptr() for layer in roomy.layers}
    for layer in range(NUM_LAYERS):
        roomy.update(*states(4, 1, layer), layer)
    assert {layer.keys.data_ptr() for layer in roomy.layers} == before

    roomy = copy.deepcopy(roomy)
    held = {x.data_ptr() for layer in roomy.layers[::2] for x in (layer.keys, layer.values)}
    for _ in range(5):
        for layer in roomy.layers[::2]:
            layer.batch_select_indices(torch.tensor([1, 0, 3, 3]))
        held |= {x.data_ptr() for layer in roomy.layers[::2] for x in (layer.keys, layer.values)}
    assert len(held) == 5


def test_layers_that_forget_stay_as_they_are():
    cache = DynamicCache()
    cache.update(*states(1, 3, 0), 0)
    kind = type("OtherLayer", (type(cache.layers[0]),), {})
    cache.layers[0].__class__ = kind
    give_room(cache)
    assert type(cache.layers[0]) is kind
