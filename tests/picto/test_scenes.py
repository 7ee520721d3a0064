"""Scenes: composed by number, split by pairs, captioned as lists."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polylens.data.sample import Picture
from polylens.errors import UserError
from polylens.picto.lists import joined, parts, set_f1, set_match
from polylens.picto.scenes import SIDE, SPLITS, is_unseen, samples, scenes, single
from polylens.picto.world import DEVELOPMENT_STYLE, FINAL_STYLE, LANGUAGES, concepts

WORDS = st.text(st.characters(categories=("Ll", "Lo")), min_size=1, max_size=8)


@pytest.mark.parametrize("split", SPLITS)
def test_a_scene_is_the_same_whenever_and_however_many_are_drawn(split: str) -> None:
    few, many = scenes(split, 3), scenes(split, 6)
    assert many[:3] == few
    assert isinstance(few[0], Picture)
    first = few[0].load()
    assert first.size == (SIDE, SIDE)
    assert first.mode == "RGB"
    assert first.tobytes() == many[0].load().tobytes()
    assert len({scene.key for scene in many}) == 6


def test_training_shows_no_unseen_pair_and_no_test_style() -> None:
    for scene in scenes("train", 300):
        assert not any(is_unseen(*pair) for pair in itertools.combinations(scene.concepts, 2))
        assert all(one.style in one.concept.trained_styles() for one in scene.placed)
    pairs = {frozenset(scene.concepts) for scene in scenes("train", 1000) if len(scene.placed) == 2}
    assert all(frozenset(scene.concepts) in pairs for scene in scenes("seen", 20))
    assert all(is_unseen(*scene.concepts) for scene in scenes("unseen", 20))
    assert all(not c.trained_styles() for scene in scenes("heldout", 20) for c in scene.concepts)
    assert all(
        one.style == one.concept.validation_style() for s in scenes("validation", 20) for one in s.placed
    )


def test_about_a_tenth_of_all_pairs_is_unseen() -> None:
    some = concepts()[:120]
    found = [is_unseen(*pair) for pair in itertools.combinations(some, 2)]
    assert 0.08 < sum(found) / len(found) < 0.12
    assert is_unseen(some[0], some[1]) == is_unseen(some[1], some[0])


def test_what_is_composed_lies_in_reading_order_inside_the_picture() -> None:
    for scene in scenes("triples", 50):
        assert all(p.left >= 0 and p.left + p.side <= SIDE for p in scene.placed)
        assert all(p.top >= 0 and p.top + p.side <= SIDE for p in scene.placed)
        rows = [(p.top + p.side / 2 > SIDE / 2, p.left + p.side / 2) for p in scene.placed]
        assert rows == sorted(rows)


def test_test_scenes_are_drawn_in_the_style_that_is_asked_for() -> None:
    for style in (DEVELOPMENT_STYLE, FINAL_STYLE):
        for scene in scenes("seen", 5, style=style):
            assert {one.style for one in scene.placed} == {style}


def test_captions_are_lists_as_each_language_writes_them() -> None:
    assert joined(["dog", "tree"], "en") == "dog, tree"
    assert joined(["犬", "木"], "ja") == "犬、木"
    assert joined(["كلب", "شجرة"], "ar") == "كلب، شجرة"
    found = {sample.language: sample.turns[0].answer for sample in samples(split="triples", num_scenes=1)}
    assert set(found) == set(LANGUAGES)
    assert all(len(parts(text)) == 3 for code, text in found.items() if code in ("en", "zh", "ja", "fr"))


def test_each_scene_is_captioned_in_as_many_languages_as_asked_for() -> None:
    found = samples(languages=["de", "fr", "zh"], num_scenes=10, languages_per_scene=2)
    assert len(found) == 20
    assert len({sample.id for sample in found}) == 20
    assert found == samples(languages=["de", "fr", "zh"], num_scenes=10, languages_per_scene=2)


def test_a_single_pictogram_is_shown_as_it_is_drawn() -> None:
    cat = next(concept for concept in concepts() if concept.name("en") == "cat")
    assert single(cat, DEVELOPMENT_STYLE).load().tobytes() == cat.picture(DEVELOPMENT_STYLE).load().tobytes()


@given(
    st.lists(WORDS, min_size=1, max_size=3, unique=True),
    st.sampled_from(["en", "ja", "ar", "am"]),
    st.randoms(),
)
def test_a_list_in_any_order_matches_itself(names: list[str], code: str, rng: object) -> None:
    shuffled = list(names)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert set_match(joined(shuffled, code), joined(names, code)) == 1
    assert set_f1(joined(shuffled, code), joined(names, code)) == 1


def test_f1_counts_what_is_right_in_part() -> None:
    assert set_f1("dog, tree", "tree, cat") == 0.5
    assert set_f1("dog", "tree") == 0
    assert set_match("dog", "dog, tree") == 0


def test_what_there_is_none_of_is_refused() -> None:
    with pytest.raises(UserError, match="no scenes 'test'"):
        scenes("test", 1)
    with pytest.raises(UserError, match="no style 'crayon'"):
        scenes("seen", 1, style="crayon")
    with pytest.raises(UserError, match="languages_per_scene is 0"):
        samples(languages_per_scene=0)
