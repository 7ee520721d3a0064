"""What is said at the end of a run."""

import json
import math

from polylens.recipe import load_recipe
from polylens.training.outcome import BEFORE, outcome


def reached(folder, before, after, vocabulary=100, losses=(1.0,), recipe="mpm-pretrain", changes=()):
    (folder / BEFORE).write_text(json.dumps(before))
    (folder / "log.jsonl").write_text("".join(json.dumps({"loss": loss}) + "\n" for loss in losses))
    return outcome(load_recipe(recipe, changes), folder, after, vocabulary)


def test_a_better_model_needs_no_advice(tmp_path):
    found = reached(tmp_path, {"loss": 4.0, "chrf": 10.0}, {"loss": 2.0, "chrf": 20.0, "steps": 5})
    assert found.rows == [("loss", 4.0, 2.0), ("chrf", 10.0, 20.0)]
    assert found.advice == []


def test_a_model_that_got_worse_is_said_to_be(tmp_path):
    (advice,) = reached(tmp_path, {"loss": 4.0, "chrf": 10.0}, {"loss": 4.1, "chrf": 9.0}).advice
    assert "no better than before training (loss, chrf)" in advice
    (advice,) = reached(tmp_path, {"chrf": 9, "chrf/de": 10.0}, {"chrf": 11, "chrf/de": 9.0}).advice
    assert advice == "Worse than before: chrf, German."


def test_a_loss_of_chance_is_said_to_be_one(tmp_path):
    (advice,) = reached(tmp_path, {}, {"loss": 4.7}).advice
    assert f"has {math.log(100):.2f}" in advice
    (advice,) = reached(tmp_path, {}, {}, losses=[9.0, 4.6, 4.7], vocabulary=90).advice
    assert "at random" in advice
    assert reached(tmp_path, {}, {}, losses=[4.7], vocabulary=200).advice == []


def test_losses_of_two_objectives_are_not_compared(tmp_path):
    two = {"recipe": "picto", "changes": ["stages.0.objective=embeddings"]}
    assert reached(tmp_path, {"loss": 0.1}, {"loss": 3.0}, **two).rows == []
