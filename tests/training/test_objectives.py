"""What a stage teaches: answers, the language model's embeddings of them, or what another package says."""

import json
from pathlib import Path

import pytest
import torch
from tests.models.tiny_models import sample, tiny_vlm
from tests.plugins import install
from tests.training.test_tasks import still
from tests.training.toys import stage

from polylens.errors import UserError
from polylens.training.loop import Trainer
from polylens.training.objectives import find_objective, repeated
from polylens.training.tasks import VisionLanguageTask

SAMPLES = [
    sample("German:", "Katze", (0,), "a"),
    sample("French:", "chat noir", (1,), "b"),
    sample("Swahili:", "paka", (2,), "c"),
]
TABLE = {"projector.*": 1e-2, "resampler.*": 1e-2}


def losses(out, lm, samples=SAMPLES, micro_batch=None, steps=4, objective="embeddings"):
    model = tiny_vlm(lm)
    still(model)
    task = VisionLanguageTask(model, cache=out.parent / "features")
    stages = [stage(table=TABLE, batch_size=3, steps=steps, micro_batch=micro_batch, objective=objective)]
    Trainer(task, stages, samples, out).run()
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("lm", ["llama", "mt5"])
def test_losses_do_not_depend_on_the_micro_batch(tmp_path, lm):
    whole = losses(tmp_path / "whole", lm)
    parts = losses(tmp_path / "parts", lm, micro_batch=1)
    assert parts == pytest.approx(whole, rel=1e-4)


def test_visual_tokens_come_near_to_the_words(tmp_path):
    found = losses(tmp_path / "run", "llama", steps=60)
    assert found[-1] < 0.7 * found[0]


def test_the_goal_is_the_answer_repeated():
    model = tiny_vlm("llama")
    model.projector = torch.nn.Identity()
    batch = model.collator(with_pictures=False)(SAMPLES[:1])
    ids = model.tokenizer("Katze", add_special_tokens=False).input_ids
    goal = model.lm.get_input_embeddings()(torch.tensor(ids))
    count = model.num_image_tokens
    batch.visual, batch.level = goal.repeat(-(-count // len(ids)), 1)[None, :count], "queries"
    assert find_objective("embeddings").loss(model, batch, 1).item() == pytest.approx(0, abs=1e-10)


def test_a_caption_is_said_again_and_again():
    assert repeated([4, 7, 2], 8) == [4, 7, 2, 4, 7, 2, 4, 7]
    assert repeated([4, 7, 2], 2) == [4, 7]


def test_of_visual_words_it_is_the_cross_entropy_of_the_answers_words():
    model = tiny_vlm(projector={"kind": "words"})
    batch = model.collator()(SAMPLES[:1])
    ids = model.tokenizer("Katze", add_special_tokens=False).input_ids
    logits = model.projector.logits(model.queries(batch))[0].log_softmax(-1)
    expected = -torch.stack([logits[at, ids[at % len(ids)]] for at in range(len(logits))]).mean()
    found = find_objective("embeddings").loss(model, batch, batch.num_targets)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("pictures", [(0, 1), ()])
def test_samples_without_just_one_picture_are_refused(tmp_path, pictures):
    other = sample("Both?", "yes", pictures, "odd")
    # Beside it, one that would make up for the number of pictures.
    with pytest.raises(UserError, match=r"one picture and an answer each, and '(odd|b)' is none"):
        losses(tmp_path / "run", "llama", [other, sample("x", "yes", (0, 1)[: 2 - len(pictures)], "b")])


SHORT = """
from polylens.training.objectives import Objective

class Short(Objective):
    runs_language_model = False

    def loss(self, model, batch, num_targets):
        return model.project(model.queries(batch)).square().mean() * batch.num_targets / num_targets
"""


def test_an_objective_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="no objective 'short': the nearest is"):
        stage(objective="short")
    install(
        tmp_path,
        monkeypatch,
        "short_objective",
        SHORT,
        "polylens.objectives",
        "short = short_objective:Short",
    )
    found = losses(tmp_path / "run", "llama", steps=60, objective="short")
    assert found[-1] < 0.5 * found[0]
