"""The laboratory from end to end, on the packaged parts, with few scenes and hardly any training."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from polylens.models.checkpoints.folder import load_model
from polylens.picto import demo, measure, table
from polylens.picto.probe import train_probe
from polylens.picto.scenes import Scene, scenes, single
from polylens.picto.world import FINAL_STYLE, concepts
from polylens.recipe import load_recipe

SIZES = {"single": 4, "seen_pairs": 2, "unseen_pairs": 2, "triples": 2, "held_out": 2}
LANGUAGES = ["en", "de", "zh"]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("demo")
    paths = {}
    for arm, name in demo.RECIPES.items():
        recipe = load_recipe(name).model_dump(mode="json", exclude_defaults=True)
        recipe["model"]["language_model"]["languages"] = LANGUAGES
        for part in recipe["data"]["mix"]:
            part["options"]["num_scenes"] = 12
            part["languages"] = [code for code in part["languages"] if code in LANGUAGES]
        for stage in recipe["stages"]:
            stage |= {"steps": 2, "batch_size": 8, "warmup_steps": 0}
        paths[arm] = str(folder / f"{name}.yaml")
        Path(paths[arm]).write_text(yaml.safe_dump(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYLENS_CACHE", str(folder / "cache"))
        patch.setattr(demo, "RECIPES", paths)
        patch.setattr(demo, "NUM_CONTROLS", 2)
        console = Console(record=True, file=io.StringIO(), width=140)
        demo.Demo(folder / "out", console, sizes=SIZES).run((0, 1))
        demo.Demo(folder / "out", console, style=FINAL_STYLE, sizes=SIZES).run((0,))
    return {
        "folder": folder / "out",
        "printed": console.export_text(),
        **json.loads((folder / "out" / "results.json").read_text()),
    }


def test_results_have_all_that_is_promised(results: dict) -> None:
    assert set(results["arms"]) == {"english", "mix"}
    for arm in results["arms"].values():
        assert {"exact", "seen_pairs", "unseen_pairs", "triples", "held_out", "set_f1"} <= set(arm)
        assert {"normalised_ratio", "normalised_ratio_pairs", "minus_translate_test"} <= set(arm)
        assert {"value", "low", "high"} <= set(arm["exact"]["en"])
        assert set(arm["languages"]) == set(LANGUAGES)
    assert set(results["baselines"]) == {"classifier_dictionary", "classifier_translated", "translate_test"}
    assert results["ceilings"]["text"]["exact"]["others"]["value"] >= 0.5
    assert results["ceilings"]["english_copy"] >= 0.5
    assert set(results["controls"]) == {"no_image", "other_image", "before_alignment"}
    assert results["sizes"] == SIZES
    assert results["n"] == sum(SIZES.values())
    assert results["style"] == "twemoji"
    assert results["seeds"] == [0, 1]
    assert [row["seed"] for row in results["by_seed"]] == [0, 1]
    assert {"alignment", "measurement", "baselines", "controls", "report"} <= set(results["seconds"])


def test_rows_stand_in_their_order(results: dict) -> None:
    labels = [*table.BASELINES.values(), *table.ARMS.values(), "Text ceiling"]
    printed = results["printed"].rpartition("F1")[2]
    places = [printed.index(label) for label in labels]
    assert places == sorted(places)


def test_the_final_style_is_measured_apart_with_the_same_models(results: dict) -> None:
    final = json.loads((results["folder"] / "final" / "results.json").read_text())
    assert final["style"] == FINAL_STYLE
    assert sorted(path.name for path in (results["folder"] / "runs").iterdir()) == [
        "english-0",
        "english-1",
        "mix-0",
        "mix-1",
    ]


def test_the_report_lies_beside_the_results(results: dict) -> None:
    page = (Path(results["folder"]) / "report.html").read_text()
    assert "German" in page
    assert "(b) mix" in page
    assert list(Path(results["folder"]).glob("*.png"))


def test_both_arms_see_the_same_pictures_for_as_many_steps() -> None:
    english, mix = (load_recipe(name) for name in demo.RECIPES.values())
    assert english.stages == mix.stages
    assert english.augmentation == mix.augmentation
    assert english.model == mix.model
    sizes = {part.options["num_scenes"] for recipe in (english, mix) for part in recipe.data.parts}
    assert len(sizes) == 1
    spoken = {code for part in mix.data.parts for code in part.languages or []}
    assert len(spoken) == 30


def test_scenes_are_captioned_alike_alone_and_with_others() -> None:
    model = load_model("picto", torch.float32)
    shown = scenes("seen", 4)
    alone, both = (measure.describe(model, some, ["en", "de"]) for some in (shown[2:], shown))
    assert demo.pick(both, [2, 3]) == alone


def test_what_is_known_is_not_translated_again() -> None:
    model = load_model("picto", torch.float32)
    texts = ["cat", "dog", "cat"]
    alone = measure.translate(model, texts, ["de"])
    assert alone["de"][0] == alone["de"][2] != alone["de"][1]
    known = measure.translate(model, texts, ["de"], known={"de": {"cat": "Kater"}})
    assert known == {"de": ["Kater", alone["de"][1], "Kater"]}


def _scene(*names: str) -> Scene:
    by_name = {concept.name("en"): concept for concept in concepts()}
    placed = tuple(single(by_name[name], "twemoji").placed[0] for name in names)
    return Scene(placed, (255, 255, 255))


def _shown() -> table.Shown:
    found = [_scene("pizza"), _scene("cat"), _scene("dog"), _scene("dog", "cat")]
    return table.Shown(found, ["single", "single", "single", "unseen_pairs"])


def test_pairs_count_in_any_order_and_ratios_leave_out_names_that_equal_the_english_ones() -> None:
    shown = _shown()
    text = {code: [scene.name(code) for scene in shown.scenes] for code in ("en", "de")}
    said = {"en": text["en"], "de": ["Pizza", "Katze", "falsch", "Katze, Hund"]}
    found = table.system(said, shown, text)
    assert found["exact"]["others"]["value"] == pytest.approx(2 / 3)
    assert found["unseen_pairs"]["others"]["value"] == 1
    assert found["set_f1"]["others"]["value"] == 1
    assert found["normalised_ratio"]["value"] == pytest.approx(0.5)
    assert table.difference(said, text, shown)["difference"] == pytest.approx(-0.25)


def test_a_ratio_is_normalised_by_both_ceilings() -> None:
    shown = _shown()
    right = {code: [scene.name(code) for scene in shown.scenes] for code in ("en", "de")}
    half = {"en": right["en"], "de": ["Pizza", "Katze", "?", "?"]}
    assert table.system(half, shown, half)["normalised_ratio"]["value"] == pytest.approx(1)
    nothing = {code: ["?"] * 4 for code in ("en", "de")}
    assert table.system(right, shown, nothing)["normalised_ratio"] is None
    assert table.system(nothing, shown, right)["normalised_ratio"] is None


def test_single_rows_of_languages_leave_out_equal_names_too() -> None:
    shown = _shown().scenes[:3]
    said = {"en": ["pizza", "cat", "dog"], "de": ["Pizza", "Katze", "falsch"]}
    rows = measure.language_rows(said, shown)
    assert rows["de"]["n_ratio"] == 2
    assert rows["de"]["pivot_ratio"] == pytest.approx(0.5)
    assert measure.summary(rows) == {
        "mean_pivot_ratio": 0.5,
        "worst_pivot_ratio": 0.5,
        "worst_language": "de",
    }
    rows = measure.language_rows({"en": ["?"] * 3, "de": ["?"] * 3}, shown)
    assert rows["de"]["pivot_ratio"] is None
    assert measure.summary(rows) == {}


def test_a_probe_learns_what_and_how_many() -> None:
    torch.manual_seed(0)
    known = concepts()[:6]
    ways = torch.randn(6, 16)
    wanted = [[known[i % 6].id] if i % 2 else [known[i % 6].id, known[(i + 1) % 6].id] for i in range(240)]
    place = {concept.id: at for at, concept in enumerate(known)}
    features = torch.stack([sum(ways[place[one]] for one in ids) for ids in wanted])  # type: ignore[misc]
    features += 0.05 * torch.randn_like(features)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polylens.picto.probe.EPOCHS", 200)
        probe = train_probe(features, wanted, known)
    names, counts = probe(features)
    ranked, sizes = names.topk(3, 1).indices.tolist(), (counts.argmax(1) + 1).tolist()
    found = [{known[at].id for at in row[:n]} for row, n in zip(ranked, sizes, strict=True)]
    assert np.mean([ids == set(own) for ids, own in zip(found, wanted, strict=True)]) > 0.9


def test_seeds_are_averaged_and_their_intervals_joined() -> None:
    runs = [
        {"a": 0.0, "s": {"value": 0.2, "low": 0.1, "high": 0.3, "n": 4}, "none": None},
        {"a": 1.0, "s": {"value": 0.4, "low": 0.2, "high": 0.5, "n": 4}, "none": None},
    ]
    found = table.average(runs)
    assert found["a"] == 0.5
    assert found["s"] == {"value": pytest.approx(0.3), "low": 0.1, "high": 0.5, "n": 4}
    assert found["none"] is None
