"""The packaged data: complete, split as documented, and never showing a test drawing to training."""

import json
from pathlib import Path

import pytest
from tools.picto.build import checksums

from polylens.errors import UserError
from polylens.picto.tasks import SPLITS, TASKS, hard_negatives, pictures, samples
from polylens.picto.world import DEVELOPMENT_STYLE, LANGUAGES, PACKAGED, annotations, concepts


def test_packaged_data_are_those_that_the_builder_made() -> None:
    assert checksums(PACKAGED) == json.loads((PACKAGED / "CHECKSUMS.json").read_text())


def test_every_concept_has_an_english_name_and_a_drawing_in_every_style() -> None:
    assert len({concept.id for concept in concepts()}) == len(concepts())
    for concept in concepts()[::50]:
        assert concept.name("en")
        for style in ("noto", "openmoji", "openmoji-line", "twemoji"):
            assert concept.picture(style).load().size == (64, 64)


def test_at_least_102_languages_with_1300_names_and_all_thirty_of_the_language_model() -> None:
    assert len(annotations()) >= 102
    assert min(len(rows) for rows in annotations().values()) >= 1300
    assert set(LANGUAGES) <= set(annotations())
    assert len(LANGUAGES) == 30


def test_no_clock_face_symbol_or_flag_is_scored() -> None:
    scored = [concept for concept in concepts() if concept.scored]
    assert {"symbols", "flags", "component"}.isdisjoint(concept.group for concept in scored)
    assert not any(concept.emoji == "🕐" for concept in scored)
    assert any(concept.emoji == "⏰" for concept in scored)


def test_training_never_shows_the_test_style_nor_a_held_out_concept() -> None:
    shown = pictures("train", drawings="all")
    assert DEVELOPMENT_STYLE not in {style for _, style in shown}
    heldout = {concept.id for concept, _ in pictures("heldout")}
    assert heldout.isdisjoint(concept.id for concept, _ in shown)
    assert {concept.id for concept, _ in pictures("test")} <= {concept.id for concept, _ in shown}
    trained = {(concept.id, style) for concept, style in shown}
    assert trained.isdisjoint((concept.id, style) for concept, style in pictures("validation"))


def test_one_drawing_of_each_concept() -> None:
    one, colour = pictures("train", drawings="one"), pictures("train")
    assert len(one) == len({concept.id for concept, _ in one}) == len({concept.id for concept, _ in colour})
    assert set(one) < set(colour)


def test_about_a_tenth_is_held_out_and_a_tenth_validates() -> None:
    for split in ("heldout", "validation"):
        assert 0.08 < len(pictures(split)) / sum(concept.scored for concept in concepts()) < 0.12


@pytest.mark.parametrize("task", TASKS)
def test_every_task_in_every_language_of_the_language_model(task: str) -> None:
    found = samples(split="heldout", tasks=[task], num_concepts=12)
    assert {sample.language for sample in found} == set(LANGUAGES)
    for sample in found:
        assert len(sample.images) == (2 if task == "statement" else 1)
        assert sample.turns[0].prompt.strip()
        assert sample.turns[0].answer.strip()
    assert samples(split="heldout", tasks=[task], num_concepts=12) == found


def test_yes_and_no_are_about_as_frequent_and_follow_the_picture() -> None:
    found = samples(split="test", tasks=["yesno"], languages=["en"])
    yes = [sample for sample in found if sample.turns[0].answer == "yes"]
    assert 0.4 < len(yes) / len(found) < 0.6
    names = {concept.id: concept.name("en") for concept in concepts()}
    for sample in found:
        right = f"this: {names[sample.extra['concept']]}?" in sample.turns[0].prompt
        assert right == (sample.turns[0].answer == "yes")


def test_choice_offers_the_answer_once_among_four_different_names() -> None:
    for sample in samples(split="heldout", tasks=["choice"], languages=["en"]):
        offered = sample.turns[0].prompt.removeprefix("English: Which is it: ").removesuffix("?")
        assert offered.count(sample.turns[0].answer) >= 1


@pytest.mark.parametrize("drawings", ["colour", "all"])
def test_training_shows_no_withheld_or_missing_drawing_beside_another(drawings: str) -> None:
    drawn = pictures("train", drawings=drawings)
    found = samples(languages=["en"], tasks=["statement"], drawings=drawings)
    shown = {picture.key for sample in found for picture in sample.images}
    assert shown <= {concept.picture(style).key for concept, style in drawn}
    # Where nothing else of the group is drawn in that style, there is nothing to stand beside it.
    without = [each for each in drawn if each[0].picture(each[1]).key not in shown]
    assert [(concept.name("en"), style) for concept, style in without] == [("crossed flags", "streamline")]
    assert len(found) == len(drawn) - len(without)


def test_hard_negatives_are_of_the_subgroup_first() -> None:
    import random

    cat = next(concept for concept in concepts() if concept.name("en") == "cat")
    others = hard_negatives(cat, "de", random.Random(0), 3)
    assert {other.subgroup for other in others} == {cat.subgroup}
    assert cat.name("de") not in {other.name("de") for other in others}


def test_a_language_without_templates_asks_in_english_but_names_itself() -> None:
    sample = samples(split="heldout", tasks=["yesno"], languages=["da"], num_concepts=1)[0]
    assert sample.turns[0].prompt.startswith("Danish: Is this:")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"split": "tset"}, "no split 'tset'"),
        ({"drawings": "line"}, "no drawings 'line'"),
        ({"tasks": ["vqa"]}, "no task 'vqa'"),
        ({"languages": ["xx"]}, "xx"),
    ],
)
def test_what_picto_does_not_have_is_one_clear_error(wrong: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        samples(**wrong)


def test_splits_are_those_documented() -> None:
    assert SPLITS == ("train", "validation", "test", "heldout")
    assert Path(PACKAGED / "concepts.json").exists()
