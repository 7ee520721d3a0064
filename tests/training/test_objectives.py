"""Learning to have the language model's embeddings of the answer: a stage of its own."""

import json

import pytest
import torch
from tests.models.tiny_models import sample, tiny_vlm
from tests.training.test_tasks import still
from tests.training.toys import stage

from polylens.errors import UserError
from polylens.training.loop import Trainer
from polylens.training.tasks import VisionLanguageTask

SAMPLES = [
    sample("German:", "Katze", (0,), "a"),
    sample("French:", "chat noir", (1,), "b"),
    sample("Swahili:", "paka", (2,), "c"),
]
TABLE = {"projector.*": 1e-2, "resampler.*": 1e-2}


def losses(out, lm, samples=SAMPLES, micro_batch=None, steps=4):
    model = tiny_vlm(lm)
    still(model)
    task = VisionLanguageTask(model, cache=out.parent / "features")
    stages = [stage(table=TABLE, batch_size=3, steps=steps, micro_batch=micro_batch, objective="embeddings")]
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
    batch = model.collator()(SAMPLES[:1])
    ids = model.tokenizer("Katze", add_special_tokens=False).input_ids
    goal = model.lm.get_input_embeddings()(torch.tensor(ids))
    count = model.num_image_tokens
    batch.pixel_values = None
    batch.visual = goal.repeat(-(-count // len(ids)), 1)[None, :count]
    batch.visual_level = "projected"
    assert model.embedding_loss(batch).item() == pytest.approx(0, abs=1e-10)


def test_two_pictures_in_a_sample_are_refused(tmp_path):
    with pytest.raises(UserError, match="one picture"):
        losses(tmp_path / "run", "llama", [sample("Both?", "yes", (0, 1), "a")])
