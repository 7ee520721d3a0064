"""The whole of mBLIP's way on the packaged parts: few pictures, few languages, hardly any training."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console
from transformers import AutoModelForCausalLM

from polylens.data.language_plan import shares
from polylens.data.mix import part_samples
from polylens.data.readers.jsonl import read_jsonl
from polylens.data.unreadable import Unreadable
from polylens.models.checkpoints.folder import load_model
from polylens.picto import mblip_demo, measure
from polylens.picto.scenes import single
from polylens.picto.tasks import pictures
from polylens.picto.world import annotations
from polylens.recipe import load_recipe

CONCEPTS = 12


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mblip")
    recipe = load_recipe("picto-mblip").model_dump(mode="json", exclude_defaults=True)
    recipe["model"]["language_model"]["languages"] = ["en", "de", "sw"]
    recipe["augmentation"]["views"] = 2
    for stage in recipe["stages"]:
        stage |= {"steps": 3, "batch_size": 8, "warmup_steps": 0}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYLENS_CACHE", str(folder / "cache"))
        patch.setattr(
            mblip_demo, "load_recipe", lambda name, changes=(): load_recipe(folder / "recipe.yaml", changes)
        )
        patch.setattr(mblip_demo, "NUM_ASKED", 2)
        demo = mblip_demo.MblipDemo(folder / "out", Console(quiet=True), num_concepts=CONCEPTS)
        demo.run(num_pictures=5)
    return folder / "out"


@pytest.fixture(scope="module")
def results(done: Path) -> dict:
    return json.loads((done / "results.json").read_text())


def test_the_mix_stands_beside_english_alone(results: dict) -> None:
    assert set(results["languages"]) == set(results["english_only"]) == {"en", "de", "sw"}
    assert set(results["baselines"]) == {"english"}
    for row in results["languages"].values():
        assert {"exact_match", "chrf"} <= set(row)
        assert row["n"] == 5
    for rows in results["groups"].values():
        assert {"picto_keywords", "picto_yesno", "picto_choice", "picto_statement"} <= set(rows["sw"])
    assert {"translation", "training", "export", "measurement", "tasks", "report"} <= set(results["seconds"])
    assert len(results["notes"]) == 4
    assert all("the difference is" in note for note in results["notes"][:2])


def test_the_same_samples_in_every_run(done: Path, results: dict) -> None:
    runs = {name: list(read_jsonl(done / "data" / name)) for name in ("mix", "english")}
    given = {sample.id for sample in runs["english"]}
    for name, samples in runs.items():
        assert {sample.id.split(":")[0] for sample in samples} <= given
        assert len(samples) + results["settings"]["translated"][name]["rejected"] == len(given)
    assert {sample.language for sample in runs["english"]} == {"en"}
    languages = [sample.language for sample in runs["mix"]]
    for code, share in shares("mt5", ["en", "de", "sw"]).items():
        assert 0.9 < languages.count(code) / (share * len(given)) < 1.1
    for sample in runs["mix"]:
        if sample.task == "caption":
            assert sample.turns[0].answer == annotations()[sample.language][sample.extra["concept"]][0]


def test_questions_are_asked_in_the_language_and_half_are_answered_in_english(done: Path) -> None:
    parts = {part.name: part for part in load_recipe(done / "runs" / "mix" / "recipe.yaml").data.parts}
    asked = {
        name: [
            sample
            for sample in part_samples(part, 0, Unreadable())
            if sample.turns[0].prompt.startswith("German")
        ]
        for name, part in parts.items()
    }
    assert {sample.turns[0].prompt for sample in asked["captions"]} == {"German:"}
    assert {sample.turns[0].prompt for sample in asked["keywords"]} == {"German keywords:"}
    for sample in asked["questions"]:
        assert sample.turns[0].prompt.startswith("German: ")
        assert (
            "Ist das: " in sample.turns[0].prompt
            or "Was ist es: " in sample.turns[0].prompt
            or ("Ein Bild zeigt" in sample.turns[0].prompt and len(sample.images) == 2)
        )
        if sample.extra["kind"] != "choice":
            assert sample.turns[0].answer in ("ja", "nein")
    english = [s for s in part_samples(parts["questions"], 0, Unreadable()) if s.language == "en"]
    assert len(english) > 0.3 * len(list(part_samples(parts["questions"], 0, Unreadable())))


def test_the_exported_model_is_whole_and_has_the_adapters_inside(done: Path) -> None:
    adapted = load_model(done / "runs" / "mix" / "model")
    merged = load_model(done / "picto-mblip")
    assert (done / "runs" / "mix" / "model" / "adapter").is_dir()
    assert not (done / "picto-mblip" / "adapter").exists()
    shown = [single(*one) for one in pictures("test", num_concepts=5)]
    before, after = (measure.describe(model, shown, ["de"]) for model in (adapted, merged))
    assert before == after
    plain = AutoModelForCausalLM.from_pretrained(done / "picto-mblip" / "language_model")
    ids = torch.tensor([merged.tokenizer("cat German:").input_ids])
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, merged.lm(ids).logits)


def test_the_report_shows_both(done: Path) -> None:
    page = (done / "report.html").read_text()
    for text in ("English only", "By part", "number of steps", "not machine translation"):
        assert text in page
    assert (done / "scores.png").is_file()
