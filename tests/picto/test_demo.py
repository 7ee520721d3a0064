"""The main job from end to end, on the packaged parts, with few pictures and hardly any training."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console

from polylens.models.checkpoints.folder import load_model
from polylens.picto import demo, measure
from polylens.picto.tasks import naming, pictures
from polylens.picto.world import concepts
from polylens.recipe import load_recipe


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("demo")
    recipe = load_recipe("picto").model_dump(mode="json", exclude_defaults=True)
    recipe["model"]["language_model"]["languages"] = ["en", "de"]
    recipe["data"]["options"] = {"num_concepts": 8}
    recipe["augmentation"]["views"] = 2
    for stage in recipe["stages"]:
        stage |= {"steps": 2, "batch_size": 8, "warmup_steps": 0}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYLENS_CACHE", str(folder / "cache"))
        patch.setattr(demo, "RECIPE", str(folder / "recipe.yaml"))
        patch.setattr(demo, "NUM_CONTROLS", 3)
        patch.setattr(demo, "NATIVE", ("de",))
        console = Console(record=True, file=io.StringIO(), width=120)
        demo.Demo(folder / "out", console).run(full=True, seeds=(0, 1), num_pictures=6)
    return {
        "folder": folder / "out",
        "said": console.export_text(),
        **json.loads((folder / "out" / "results.json").read_text()),
    }


def test_results_have_all_that_is_promised(results: dict) -> None:
    assert set(results["languages"]) == {"en", "de"}
    for row in results["languages"].values():
        assert {"exact_match", "chrf", "choice_accuracy", "n", "intervals"} <= set(row)
        assert row["n"] == 6
    assert {"pivot_ratio", "choice_pivot_ratio", "n_ratio"} <= set(results["languages"]["de"])
    assert set(results["controls"]) == {"no_image", "other_image", "before_alignment"}
    assert set(results["text_ceiling"]) == set(results["translate_test"]) == {"de"}
    assert set(results["heldout_concepts"]) == {"en", "de"}
    assert results["baselines"]["native"]["de"]["n"] == 6
    assert set(results["baselines"]["mix"]) == {"en", "de"}
    assert results["n"] == 6
    assert results["seeds"] == [0, 1]
    assert results["settings"]["recipe"]["data"]["languages"] == ["en"]
    assert {"alignment", "measurement", "controls", "report"} <= set(results["seconds"])


def test_seeds_stand_beside_their_mean(results: dict) -> None:
    assert [row["seed"] for row in results["by_seed"]] == [0, 1]
    assert "Seed 1: English " in results["said"]


def test_a_seeds_headline_is_its_own() -> None:
    english = {"exact_match": 0.4, "choice_accuracy": 0.6, "chrf": 50.0}
    results = {"languages": {"en": english, "de": {}}, "mean_pivot_ratio": 0.9, "n": 5}
    expected = {"seed": 3, "exact_match": 0.4, "choice_accuracy": 0.6, "mean_pivot_ratio": 0.9}
    assert demo.headline(3, results) == expected


def test_without_a_picture_the_likeliest_name_is_chosen() -> None:
    model = load_model("picto", torch.float32)
    drawn = pictures("test", num_concepts=4)
    blind = measure.without_pictures(model, drawn, ["de"])
    asked = [replace(naming(concept, style, "de"), images=()) for concept, style in drawn]
    names = [measure.candidates(concept, "de") for concept, _ in drawn]
    scores = model.score(asked, names)
    likeliest = [row[own.index(max(own))] for row, own in zip(names, scores, strict=True)]
    assert blind.chosen["de"] == likeliest


def test_pictures_are_answered_alike_alone_and_with_others() -> None:
    model = load_model("picto", torch.float32)
    drawn, others = pictures("test", num_concepts=3), pictures("heldout")[:2]
    alone, both = (measure.describe(model, shown, ["en", "de"]) for shown in (drawn, [*others, *drawn]))
    assert both[2:] == alone
    assert both[:2].drawn == others


def test_the_language_model_translates_names_it_was_given_as_text(results: dict) -> None:
    assert results["text_ceiling"]["de"] >= 0.5


def test_what_is_known_is_not_translated_again() -> None:
    model = load_model("picto", torch.float32)
    drawn = pictures("test", num_concepts=3)
    alone = measure.from_text(model, drawn, ["cat", "dog", "cat"], ["en", "de"])
    assert alone["de"][0] == alone["de"][2] != alone["de"][1]
    known = measure.from_text(model, drawn, ["cat", "dog", "cat"], ["de"], known={"de": {"cat": "Kater"}})
    assert known == {"de": ["Kater", alone["de"][1], "Kater"]}
    assert measure.from_text(model, drawn[:1], ["cat"], ["de"], known={"de": {"cat": "Kater"}}) == {
        "de": ["Kater"]
    }


def test_the_report_lies_beside_the_results(results: dict) -> None:
    page = (Path(results["folder"]) / "report.html").read_text()
    assert "German" in page
    assert list(Path(results["folder"]).glob("*.png"))


def test_candidates_are_a_hundred_different_concepts_half_of_the_group_in_every_language() -> None:
    for concept, _ in pictures("test")[::100]:
        others = measure.distractors(concept)
        assert len({other.id for other in others} | {concept.id}) == measure.NUM_CANDIDATES
        assert sum(other.group == concept.group for other in others) >= measure.NUM_CANDIDATES // 2
        assert measure.distractors.__wrapped__(concept) == others
        assert measure.candidates(concept, "sw")[0] == concept.name("sw")


def test_ratios_leave_out_names_that_equal_the_english_ones() -> None:
    by_name = {concept.name("en"): concept for concept in concepts()}
    drawn = [(by_name["pizza"], "twemoji"), (by_name["cat"], "twemoji"), (by_name["dog"], "twemoji")]
    names = {code: [concept.name(code) or "" for concept, _ in drawn] for code in ("en", "de")}
    assert names["de"][0] == "Pizza"
    said = {"en": names["en"], "de": ["Pizza", "Katze", "falsch"]}
    rows = measure.language_rows(measure.Answers(drawn, said, {}))
    assert rows["de"]["n_ratio"] == 2
    assert rows["de"]["pivot_ratio"] == pytest.approx(0.5)
    assert rows["de"]["exact_match"] == pytest.approx(2 / 3)
    assert measure.summary(rows) == {
        "mean_pivot_ratio": 0.5,
        "worst_pivot_ratio": 0.5,
        "worst_language": "de",
    }


def test_a_ratio_to_nothing_is_no_number() -> None:
    drawn = [(concepts()[0], "twemoji")]
    rows = measure.language_rows(measure.Answers(drawn, {"en": ["?"], "de": ["?"]}, {}))
    assert rows["de"]["pivot_ratio"] is None


def test_runs_are_averaged_number_by_number() -> None:
    runs = [
        {"a": 0.0, "b": {"c": 0.5, "n": 4, "d": [0.0, 1.0]}},
        {"a": 1.0, "b": {"c": 1.0, "n": 4, "d": [1.0, 1.0]}},
    ]
    assert demo.average(runs) == {"a": 0.5, "b": {"c": 0.75, "n": 4, "d": [0.5, 1.0]}}
