"""The vision-language task on tiny random models: the same numbers cached or live, whole or in parts."""

import json
import os
from dataclasses import dataclass, fields, replace

import pytest
import torch
from PIL import Image
from tests.models.tiny_models import sample, tiny_vlm
from tests.training.toys import stage

from polylens.data.sample import Sample
from polylens.errors import UserError
from polylens.recipe import Augmentation
from polylens.training.augment import augment
from polylens.training.loop import Trainer
from polylens.training.tasks import VisionLanguageTask

SAMPLES = [
    sample("German:", "Katze", (0,), "a"),
    sample("What is in both of these pictures?", "dogs", (1, 2), "b"),
    sample("Hi.", "Hello there", (), "c"),
    sample("French:", "chat", (0,), "d"),
    sample("Swahili, please:", "paka", (3,), "e"),
]
HEADS = {"projector.*": 1e-3}
BELOW = {"projector.*": 1e-3, "resampler.*": 1e-3}
ALL = {"*": 1e-3}


def run(out, model, table, augmentation=None, samples=SAMPLES, micro_batch=None, **settings):
    task = VisionLanguageTask(model, augmentation, cache=out.parent / "features")
    stages = [stage(table=table, batch_size=5, steps=6, micro_batch=micro_batch)]
    Trainer(task, stages, samples, out, **settings).run()
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines]


@pytest.mark.parametrize("lm", ["llama", "bloom", "mt5"])
def test_the_batch_is_the_collators(lm):
    model = tiny_vlm(lm)
    ours = VisionLanguageTask(model).collate(SAMPLES, [0] * len(SAMPLES))
    theirs = model.collator()(SAMPLES)
    for field in fields(theirs):
        one, other = getattr(ours, field.name), getattr(theirs, field.name)
        assert torch.equal(one, other) if isinstance(other, torch.Tensor) else one == other, field.name


@pytest.mark.parametrize("lm", ["llama", "mt5"])
@pytest.mark.parametrize("resampler", ["qformer", "mlp"])
def test_micro_batches_give_the_same_losses(tmp_path, lm, resampler):
    without = Augmentation(views="off")
    whole = run(tmp_path / "a", still(tiny_vlm(lm, resampler=resampler)).double(), ALL, without)
    parts = run(
        tmp_path / "b", still(tiny_vlm(lm, resampler=resampler)).double(), ALL, without, micro_batch=1
    )
    # Inside, some models compute in float32 whatever they are in.
    assert parts == pytest.approx(whole, rel=1e-5)
    assert len(set(whole)) == 6


def test_micro_batches_gather_samples_of_one_length(tmp_path):
    model = tiny_vlm()
    task = VisionLanguageTask(model, Augmentation(views="off"))
    shapes = []
    loss = task.loss
    task.loss = lambda batch, count: shapes.append(tuple(batch.input_ids.shape)) or loss(batch, count)
    stages = [stage(table=HEADS, batch_size=5, micro_batch=2, steps=1)]
    Trainer(task, stages, SAMPLES, tmp_path / "run").run()
    sizes = sorted(task.size(sample) for sample in SAMPLES)
    assert shapes == [(2, sizes[1]), (2, sizes[3]), (1, sizes[4])]


def still(model):
    """Without dropout, whose random numbers are drawn per micro-batch."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout", "dropout_rate"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model


@pytest.mark.parametrize("vision", ["vit", "convnext"])
@pytest.mark.parametrize("table", [HEADS, BELOW], ids=["queries", "patches"])
def test_cached_features_give_the_losses_of_live_ones(tmp_path, vision, table):
    live = run(tmp_path / "live", tiny_vlm(vision=vision), table, Augmentation(views="off"))
    cached = run(tmp_path / "cached", tiny_vlm(vision=vision), table)
    again = run(tmp_path / "again", tiny_vlm(vision=vision), table)
    assert cached == pytest.approx(live, rel=1e-5)
    assert again == cached


@dataclass(frozen=True)
class Fragile:
    """A picture that can be decoded a limited number of times."""

    key: str
    budget: list

    def load(self):
        self.budget.append(self.key)
        return Image.new("RGB", (30, 20), (len(self.key) * 20 % 256, 7, 99))


def fragile(budget):
    return [replace(s, images=tuple(Fragile(p.key, budget) for p in s.images)) for s in SAMPLES]


def test_pictures_are_decoded_once_for_views_in_a_row_and_never_again(tmp_path, monkeypatch):
    # Several threads would divide the row.
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    budget = []
    views = Augmentation(flip=True, views=3)

    def decoded(name, augmentation, **settings):
        """How many pictures a run decodes."""
        before = len(budget)
        model = tiny_vlm(seed=settings.pop("weights", 0))
        run(tmp_path / name, model, HEADS, augmentation, samples=fragile(budget), **settings)
        return len(budget) - before

    # Three views of each of four pictures; those of the two that belong together come in turns.
    assert decoded("a", views) == 1 + 2 * 3 + 1
    assert decoded("b", views, seed=5) == 0
    # One view more of each.
    assert decoded("c", Augmentation(flip=True, views=4)) == 4
    assert decoded("d", views, weights=1) == 1 + 2 * 3 + 1


@pytest.mark.parametrize("keeps", [True, False])
def test_small_patches_are_kept_for_a_later_stage(tmp_path, monkeypatch, keeps):
    if not keeps:
        monkeypatch.setattr("polylens.training.tasks.SMALL_PATCHES", 0)
    budget = []
    task = VisionLanguageTask(tiny_vlm(), cache=tmp_path / "features")
    stages = [stage(table=HEADS, batch_size=4), stage(name="second", table=BELOW, batch_size=4, steps=2)]
    Trainer(task, stages, fragile(budget), tmp_path / "run").run()
    assert len(budget) == (4 if keeps else 8)


def test_a_stage_that_trains_the_eye_sees_pixels(tmp_path):
    budget = []
    run(tmp_path / "a", tiny_vlm(), ALL, samples=fragile(budget))
    assert len(budget) > 6 * 3
    assert not (tmp_path / "features").exists()


def test_features_follow_weights_that_an_earlier_stage_changed(tmp_path):
    """A resampler that was trained and then frozen gives other queries than before."""
    model = tiny_vlm()
    task = VisionLanguageTask(model, cache=tmp_path / "features")
    stages = [stage(table=BELOW, batch_size=4), stage(name="second", table=HEADS, batch_size=4, steps=2)]
    Trainer(task, stages, SAMPLES, tmp_path / "run").run()
    batch = task.collate(SAMPLES)
    with torch.no_grad():
        cached = task.loss(batch, batch.num_targets)
        live = model.loss(model.collator()(SAMPLES))
    assert batch.level == "queries"
    assert torch.allclose(cached, live, rtol=1e-5)
    assert len(list((tmp_path / "features").iterdir())) == 2


@pytest.mark.parametrize("lm", ["llama", "mt5"])
def test_adapters_train_and_the_model_beneath_does_not(tmp_path, lm):
    model = tiny_vlm(lm)
    before = {name: tensor.clone() for name, tensor in model.language_model.state_dict().items()}
    table = {"language_model.*": {"lora": {"rank": 4}, "learning_rate": 1e-3}}
    losses = run(tmp_path / "a", model, table)
    assert run(tmp_path / "b", tiny_vlm(lm), table) == losses
    after = {name.replace(".base_layer", ""): tensor for name, tensor in model.lm.state_dict().items()}
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert all(tensor.any() for name, tensor in after.items() if "lora_B" in name)


def test_adapters_survive_a_second_stage_and_a_resume(tmp_path):
    def trainer(steps):
        table = {"language_model.*": {"lora": {"rank": 2}, "learning_rate": 1e-2}}
        stages = [stage(table=HEADS, steps=2), stage(name="second", table=table | HEADS, steps=steps)]
        task = VisionLanguageTask(tiny_vlm(), cache=tmp_path / "features")
        return Trainer(task, stages, SAMPLES, tmp_path / "run", settings={})

    first = trainer(4)
    first.checkpoints = first.checkpoints.model_copy(update={"every": 1})
    first.run()
    trained = {name: tensor.clone() for name, tensor in first.task.model.state_dict().items()}
    for cut in ("01-00000004", "02-00000000"):
        again = trainer(4)
        again.run()
        assert all(
            torch.equal(tensor, trained[name]) for name, tensor in again.task.model.state_dict().items()
        )
        path = tmp_path / "run" / "checkpoints" / cut
        for file in path.iterdir() if path.exists() else ():
            file.unlink()
        if path.exists():
            path.rmdir()


def test_bfloat16_features_and_training(tmp_path):
    exact = run(tmp_path / "a", tiny_vlm(), HEADS)
    half = run(tmp_path / "b", tiny_vlm(), HEADS, precision="bfloat16")
    assert half == pytest.approx(exact, rel=0.02)
    assert half != exact
    stored = {json.loads(path.read_text())["precision"] for path in tmp_path.glob("features/*/origin.json")}
    assert stored == {"float32", "bfloat16"}


def test_a_sample_without_an_answer_is_shown(tmp_path):
    with pytest.raises(UserError, match="'mute' of test has no target token"):
        run(tmp_path / "a", tiny_vlm(), HEADS, samples=[*SAMPLES, sample("German:", "", (0,), "mute")])


def test_a_broken_picture_is_named_while_the_cache_is_filled(tmp_path):
    from polylens.data.images import FilePicture

    (tmp_path / "broken.png").write_bytes(b"no picture")
    broken = replace(SAMPLES[0], images=(FilePicture(tmp_path / "broken.png"),))
    with pytest.raises(UserError, match=r"broken\.png"):
        run(tmp_path / "a", tiny_vlm(), HEADS, samples=[*SAMPLES, broken])


def test_views():
    draw = torch.Generator().manual_seed(0)
    image = Image.fromarray(torch.randint(0, 256, (24, 36, 3), generator=draw).to(torch.uint8).numpy())
    settings = Augmentation(crop=(0.3, 0.8), flip=True, views=4)
    views = [augment(image, f"x#{number}", settings, (24, 16)) for number in range(1, 9)]
    assert {view.size for view in views} == {(24, 16)}
    assert len({view.tobytes() for view in views}) == 8
    assert augment(image, "x#3", settings, (24, 16)).tobytes() == views[2].tobytes()
    assert augment(image, "x#3", Augmentation(views=1), (24, 16)).tobytes() == image.tobytes()


def test_every_epoch_shows_the_next_view():
    task = VisionLanguageTask(tiny_vlm(), Augmentation(flip=True, views=3))
    one: Sample = SAMPLES[0]
    assert sorted(task._view(one, epoch) for epoch in range(3)) == [0, 1, 2]
    assert task._view(one, 0) == task._view(one, 3)
    for change in ({"flip": True}, {"style": True}, {"crop": (0.5, 1.0)}):
        off = VisionLanguageTask(tiny_vlm(), Augmentation(**change, views="off"))
        assert [off._view(one, epoch) for epoch in range(3)] == [1, 2, 3]
