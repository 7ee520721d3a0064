"""The loop on a stand-in task: exactness of accumulation and of resuming, and what stops a run."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.training import killed_run
from tests.training.toys import Spelling, Word, stage, words

from polylens.data.mix import Mix, MixPart
from polylens.errors import UserError
from polylens.recipe import Checkpoints, Validation
from polylens.training.loop import Trainer

ROOT = Path(__file__).parents[2]


def trainer(out, stages=None, task=None, **settings):
    return Trainer(task or Spelling(), stages or [stage()], words(), out, **settings)


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def losses(out):
    return [(line["step"], line["stage"], line["loss"], line["gradient_norm"]) for line in log(out)]


def weights(task):
    return {name: tensor.clone() for name, tensor in task.model.state_dict().items()}


def subprocess_run(*arguments, check=True):
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, check=check, capture_output=True, text=True
    )


@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_micro_batches_change_neither_losses_nor_gradients(tmp_path, micro_batch):
    whole, parts = Spelling(), Spelling()
    trainer(tmp_path / "whole", task=whole).run()
    trainer(tmp_path / "parts", [stage(micro_batch=micro_batch)], parts).run()
    for one, other in zip(log(tmp_path / "whole"), log(tmp_path / "parts"), strict=True):
        assert one["targets"] == other["targets"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-12)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-12)
    for name, tensor in weights(whole).items():
        assert torch.allclose(tensor, weights(parts)[name], rtol=1e-9, atol=1e-12)


def test_the_loss_is_the_mean_over_all_targets_of_the_batch(tmp_path):
    task = Spelling()
    trainer(tmp_path, [stage(batch_size=23, steps=1, micro_batch=2)], task).run()
    fresh = Spelling()
    batch = fresh.collate(words())
    expected = fresh.loss(batch, batch.num_targets).item()
    assert log(tmp_path)[0]["loss"] == pytest.approx(expected, rel=1e-12)
    assert log(tmp_path)[0]["targets"] == sum(len(word.text) - 1 for word in words())


def test_training_learns_and_repeats_itself(tmp_path):
    for name in "ab":
        trainer(tmp_path / name, [stage(steps=60)], Spelling(dropout=0.2), seed=3).run()
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert log(tmp_path / "a")[-1]["loss"] < 0.8 * log(tmp_path / "a")[0]["loss"]
    trainer(tmp_path / "c", [stage(steps=60)], Spelling(dropout=0.2), seed=4).run()
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


def test_float16_scales_the_loss_skips_overflows_and_goes_on_after_a_stop(tmp_path):
    def run(folder, **more):
        task = Spelling(dtype=torch.float32)
        return trainer(folder, [stage(steps=12)], task, precision="float16", **more)

    run(tmp_path / "a", checkpoints=Checkpoints(every=4, keep=9)).run()
    lines = log(tmp_path / "a")
    skipped = [line for line in lines if line.get("skipped")]
    assert all(line["gradient_norm"] is None for line in skipped)
    assert len(skipped) < len(lines)
    scales = [line["loss_scale"] for line in lines]
    assert scales[len(skipped)] == 2 ** (16 - len(skipped))
    assert lines[-1]["loss"] < lines[0]["loss"]
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for name in ("00-00000008", "00-00000012", "01-00000000"):
        shutil.rmtree(tmp_path / "b" / "checkpoints" / name)
    run(tmp_path / "b", checkpoints=Checkpoints(every=4, keep=9)).run()
    assert losses(tmp_path / "b") == losses(tmp_path / "a")
    assert [line["loss_scale"] for line in log(tmp_path / "b")] == scales


def test_killed_again_and_again_it_gives_the_same_losses(tmp_path):
    """SIGKILL at random moments, in checkpoints, between stages and in validation too."""
    killed_run.train(tmp_path / "whole")
    done = subprocess_run("-m", "tests.training.killed_run", str(tmp_path / "killed"), "12")
    assert "killed 12 times, status 0" in done.stdout, done
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    steps = [line["step"] for line in log(tmp_path / "killed")]
    assert steps == list(range(1, len(steps) + 1))
    for one, other in zip(log(tmp_path / "whole"), log(tmp_path / "killed"), strict=True):
        assert one.get("validation") == other.get("validation")
    last = sorted((tmp_path / "whole" / "checkpoints").iterdir())[-1].name
    for file in ("weights.safetensors", "state.json"):
        both = [(tmp_path / run / "checkpoints" / last / file).read_bytes() for run in ("whole", "killed")]
        assert both[0] == both[1]


def test_a_run_at_its_end_has_nothing_left_to_do(tmp_path):
    validation = Validation(every=4)
    first = trainer(tmp_path, held_out=words(5), validation=validation).run()
    before = (tmp_path / "log.jsonl").read_text()
    task = Spelling()
    assert trainer(tmp_path, task=task, held_out=words(5), validation=validation).run() == first
    assert (tmp_path / "log.jsonl").read_text() == before
    other = Spelling()
    trainer(tmp_path / "other", task=other, held_out=words(5), validation=validation).run()
    assert all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(task).items())


def test_another_run_in_the_folder_is_refused_unless_begun_anew(tmp_path):
    trainer(tmp_path).run()
    with pytest.raises(UserError, match=r"stages\.0\.weight_decay was 0\.1, now 0\.2"):
        trainer(tmp_path, [stage(weight_decay=0.2)]).run()
    with pytest.raises(UserError, match="samples was '23"):
        replace(trainer(tmp_path), samples=words(22)).run()
    trainer(tmp_path, [stage(weight_decay=0.2, steps=3)], resume=False).run()
    assert len(log(tmp_path)) == 3


def test_the_log_and_the_curves_hold_every_step(tmp_path):
    stages = [
        stage(steps=4, table={"head.*": 0.01}),
        stage(name="more", steps=3, table={"*": 1e-3, "head.*": 0.01}),
    ]
    trainer(tmp_path, stages, held_out=words(4), validation=Validation(every=2)).run()
    lines = log(tmp_path)
    assert [(line["step"], line["stage"], line["stage_step"]) for line in lines] == [
        *((step, "main", step) for step in range(1, 5)),
        *((step + 4, "more", step) for step in range(1, 4)),
    ]
    assert lines[0]["learning_rate"] == {"head.*": 0.005}
    assert set(lines[4]["learning_rate"]) == {"*", "head.*"}
    assert [line["step"] for line in lines if "validation" in line] == [2, 4, 6, 7]
    assert set(lines[1]["validation"]) == {"loss", "loss/en", "loss/de"}
    assert {"epoch", "targets", "gradient_norm", "seconds", "samples_per_second"} <= set(lines[0])
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in curves.Scalars("loss")] == list(range(1, 8))
    assert [event.step for event in curves.Scalars("validation/loss/de")] == [2, 4, 6, 7]


def test_the_best_checkpoint_is_kept_and_taken_and_patience_ends(tmp_path):
    scores = {5: 0.1, 10: 0.9, 15: 0.3, 20: 0.9, 25: 0.2, 30: 1.0}
    at_step = {}
    task = Spelling()

    def validate(model, step):
        assert not model.training
        at_step[step] = weights(task)
        return {"chrf": scores[step], "chrf/de": 0.0}

    results = trainer(
        tmp_path,
        [stage(steps=30)],
        task,
        validate=validate,
        validation=Validation(every=5, metrics=["chrf"], patience=3),
        checkpoints=Checkpoints(every=1, keep=1),
    ).run()
    assert results == {"chrf": 0.9, "chrf/de": 0.0, "steps": 25}
    assert all(torch.equal(tensor, at_step[10][name]) for name, tensor in weights(task).items())
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "00-00000010",
        "01-00000000",
    ]


def test_validation_loss_is_over_all_targets_and_draws_nothing(tmp_path):
    task = Spelling(dropout=0.5)
    trainer(
        tmp_path / "a", [stage(micro_batch=2)], task, held_out=words(7), validation=Validation(every=5)
    ).run()
    trainer(tmp_path / "b", [stage(micro_batch=2)], Spelling(dropout=0.5)).run()
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    batch = task.collate(words(7))
    best = min(line["validation"]["loss"] for line in log(tmp_path / "a") if "validation" in line)
    assert task.loss(batch, batch.num_targets).item() == pytest.approx(best, rel=1e-12)


def test_a_metric_that_validation_does_not_give_is_named(tmp_path):
    with pytest.raises(UserError, match="gives no 'chrf', only loss"):
        trainer(tmp_path, held_out=words(4), validation=Validation(every=2, metrics=["chrf"])).run()


@pytest.mark.parametrize("place", ["loss", "gradient"])
def test_what_is_not_finite_stops_before_the_update_and_names_the_samples(tmp_path, place):
    class Broken(Spelling):
        def loss(self, batch, num_targets):
            loss = super().loss(batch, num_targets)
            if "w7" not in batch.sample_ids:
                return loss
            # The root of 0 is finite, its slope is not.
            return loss * float("nan") if place == "loss" else loss + (self.model.head.bias * 0).sum().sqrt()

    task = Broken()
    running = trainer(tmp_path, [stage(micro_batch=2, steps=40, batch_size=4)], task)
    with pytest.raises(UserError, match=f"The {place} is not finite in step .*w7") as caught:
        running.run()
    before = weights(task)
    named = re.search(r"samples are ([^:]*):", str(caught.value))[1].split(", ")
    assert len(named) == (2 if place == "loss" else 4)
    assert all(torch.isfinite(tensor).all() for tensor in before.values())
    failed = len(log(tmp_path)) + 1
    assert f"step {failed} " in str(caught.value)


def test_a_sample_without_target_is_shown(tmp_path):
    running = replace(trainer(tmp_path), samples=[*words(), Word("empty-one", "x")])
    with pytest.raises(UserError, match="'empty-one' has no target token"):
        running.run()


def test_a_stage_may_be_of_some_parts_only(tmp_path):
    more = [replace(word, id=f"v{word.id}") for word in words(20)]
    mixed = Mix([MixPart("some", words(5)), MixPart("more", more)])
    running = trainer(tmp_path, [stage(parts=["some"], epochs=2, steps=None, batch_size=5)])
    replace(running, samples=mixed).run()
    assert len(log(tmp_path)) == 2


def test_precision_bfloat16_trains(tmp_path):
    task = Spelling(dtype=torch.float32)
    trainer(tmp_path, [stage(steps=40, table={"head.*": 0.05})], task, precision="bfloat16").run()
    assert task.model.head.weight.dtype is torch.float32
    assert log(tmp_path)[-1]["loss"] < log(tmp_path)[0]["loss"]


def test_an_unwritable_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        trainer(tmp_path / "file" / "run").run()


def test_a_full_disk_is_one_sentence(tmp_path):
    """The system's limit on file sizes stands for the full disk: writing fails in the middle of a file."""
    code = f"""
import resource
from pathlib import Path
from polylens.data.mix import Mix, MixPart
from polylens.errors import UserError
from polylens.recipe import Checkpoints
from polylens.training.loop import Trainer
from tests.training.toys import Spelling, stage, words
resource.setrlimit(resource.RLIMIT_FSIZE, (BYTES, BYTES))
try:
    Trainer(Spelling(), [stage(steps=400)], words(), Path({str(tmp_path)!r}) / "BYTES",
            checkpoints=Checkpoints(every=EVERY)).run()
except UserError as error:
    print("sentence:", error)
"""
    for limit, every, what in ((2000, 1, "checkpoints"), (20000, 1000, "log.jsonl")):
        done = subprocess_run("-c", code.replace("BYTES", str(limit)).replace("EVERY", str(every)))
        assert re.search(rf"sentence: '.*{what}' cannot be written: .*too large", done.stdout), done
        assert "Traceback" not in done.stderr


def test_the_terminal_shows_the_table_and_the_progress(tmp_path):
    console = Console(width=140, force_terminal=True, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    trainer(tmp_path, console=console, held_out=words(3), validation=Validation(every=6)).run()
    text = console.export_text()
    assert "Stage 'main'" in text
    assert "step 6  validation  loss" in text
    assert "12/12" in text
    assert "samples/s" in text
