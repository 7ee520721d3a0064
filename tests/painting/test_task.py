"""Training of painters: what is cached, what is random, the moving average, resume, LoRA."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers", reason="diffusers is not installed: the extra 'paint'")

from tests.models.tiny_models import NoisePicture
from tests.painting.tiny_painters import DIT, save_stable_diffusion, tiny_painter

from polylens.data.sample import Sample, Turn
from polylens.errors import UserError
from polylens.models.parts.lora import adapters
from polylens.painting.folder import load_painter, save_painter
from polylens.painting.painter import Painter
from polylens.painting.recipe import Painting
from polylens.painting.sampling import Sampling
from polylens.painting.task import PaintTask, buckets, nearest_bucket
from polylens.recipe import Augmentation, Checkpoints, Stage, Validation
from polylens.training.loop import Trainer

torch.set_num_threads(1)


@dataclass(frozen=True)
class ShapedPicture:
    """A grey picture of some size."""

    width: int
    height: int
    shade: int = 128

    @property
    def key(self) -> str:
        return f"{self.width}x{self.height}-{self.shade}"

    def load(self) -> Image.Image:
        return Image.new("RGB", (self.width, self.height), (self.shade,) * 3)


def samples(count: int = 6) -> list[Sample]:
    names = ["a cat", "dog", "big dog", "", "tree", "one more tree"]
    return [
        Sample(f"s{i}", (NoisePicture(i % 4),), (Turn("", names[i % 6]),), "en", "caption", "test")
        for i in range(count)
    ]


def stage(**changes: Any) -> Stage:
    settings: dict[str, Any] = {
        "name": "painting",
        "table": {"bridge.*": 1e-2, "denoiser.*": 1e-3},
        "batch_size": 4,
        "steps": 4,
    }
    return Stage.model_validate(settings | changes)


def trainer(painter: Painter, out: Path, stages: Sequence[Stage], **settings: Any) -> Trainer:
    own = {name: settings.pop(name) for name in ("augmentation", "seed") if name in settings}
    training = settings.pop("training", Painting(average=0.9, min_snr=5.0))
    task = PaintTask(painter, training, cache=out.parent / "cache", **own)
    return Trainer(
        task,
        stages,
        settings.pop("samples", samples()),
        out,
        checkpoints=Checkpoints(every=settings.pop("every", 100)),
        device="cpu",
        **settings,
    )


def weights(painter: Painter) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in painter.named_parameters() if not n.startswith("text.")}


def prepared(painter: Painter, tmp_path: Path, chosen: Sequence[Sample], **settings: Any) -> PaintTask:
    from polylens.training.stages import apply_stage

    training = Painting(**{k: settings.pop(k) for k in ("buckets", "caption_dropout") if k in settings})
    task = PaintTask(painter, training, cache=tmp_path / "cache", **settings)
    task.prepare(apply_stage(painter, stage()), chosen, [])
    return task


@pytest.mark.parametrize("lm", ["llama", "t5"])
def test_the_loss_falls_and_the_language_model_stays(tmp_path: Path, lm: str) -> None:
    painter = tiny_painter(tmp_path, lm)
    before = {n: p.clone() for n, p in painter.text.named_parameters()}
    run = trainer(painter, tmp_path / "run", [stage(steps=30)], training=Painting(caption_dropout=0.0))
    run.run()
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])
    assert all(torch.equal(p, before[n]) for n, p in painter.text.named_parameters())


def test_a_run_that_was_stopped_goes_on_exactly(tmp_path: Path) -> None:
    stages = [stage(table={"bridge.*": 1e-2}, name="bridge", steps=3), stage(steps=4)]
    kept: dict[str, Any] = {
        "held_out": samples(2),
        "validation": Validation(every=2, split="rest"),
        "augmentation": Augmentation(crop=(0.7, 1.0), views=2),
    }
    whole = tiny_painter(tmp_path)
    wanted = trainer(whole, tmp_path / "whole", stages, **kept).run()
    first = trainer(tiny_painter(tmp_path), tmp_path / "cut", stages, every=1, **kept)
    steps = iter(range(5))
    after = first.task.after_step

    def stop() -> None:
        after()
        if next(steps) == 4:
            raise KeyboardInterrupt

    first.task.after_step = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        first.run()
    resumed = tiny_painter(tmp_path)
    assert trainer(resumed, tmp_path / "cut", stages, every=1, **kept).run() == wanted
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name]), name


def test_micro_batches_change_nothing(tmp_path: Path) -> None:
    found = []
    for micro in (None, 1):
        out = tmp_path / f"run-{micro}"
        trainer(tiny_painter(tmp_path), out, [stage(micro_batch=micro, steps=1)]).run()
        found.append(json.loads((out / "log.jsonl").read_text()))
    for key in ("loss", "gradient_norm"):
        assert found[0][key] == pytest.approx(found[1][key], rel=1e-5)


def test_the_moving_average_is_what_is_kept(tmp_path: Path) -> None:
    painter = tiny_painter(tmp_path)
    run = trainer(painter, tmp_path / "run", [stage(steps=3)], training=Painting(average=0.5))
    name = "bridge.w_out_res.weight"
    seen = [dict(painter.named_parameters())[name].detach().clone()]
    after = run.task.after_step

    def watch() -> None:
        seen.append(dict(painter.named_parameters())[name].detach().clone())
        after()

    run.task.after_step = watch  # type: ignore[method-assign]
    run.run()
    average = seen[0]
    for number, tensor in enumerate(seen[1:], start=1):
        decay = min(0.5, (1 + number) / (10 + number))
        average = decay * average + (1 - decay) * tensor
    assert torch.allclose(dict(painter.named_parameters())[name], average, atol=1e-6)


def test_captions_are_dropped_in_training_alone(tmp_path: Path) -> None:
    painter = tiny_painter(tmp_path)
    chosen = [s for s in samples(40) if s.turns[0].answer]
    task = prepared(painter, tmp_path, chosen, caption_dropout=0.5)
    empty = painter.text.encode([""])[0]

    def dropped(epochs: list[int] | None) -> int:
        rows = [row for group in task.collate(chosen, epochs).groups for row in group.rows]
        return sum(row.shape == empty.shape and torch.allclose(row, empty) for row in rows)

    assert 0.2 * len(chosen) < dropped([0] * len(chosen)) < 0.8 * len(chosen)
    assert dropped(None) == 0
    again = task.collate(chosen, [0] * len(chosen))
    assert torch.equal(again.groups[0].noise, task.collate(chosen, [0] * len(chosen)).groups[0].noise)
    assert not torch.equal(again.groups[0].noise, task.collate(chosen, [1] * len(chosen)).groups[0].noise)


def test_latents_and_states_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(tiny_painter(tmp_path), tmp_path, samples())
    painter = tiny_painter(tmp_path)
    monkeypatch.setattr(painter.text, "encode", lambda *_: pytest.fail("encoded again"))
    monkeypatch.setattr(painter.space, "encode", lambda *_: pytest.fail("encoded again"))
    task = prepared(painter, tmp_path, samples())
    assert task.collate(samples(2)).num_targets == 2


def test_pictures_go_to_the_bucket_of_their_aspect(tmp_path: Path) -> None:
    shapes = [(100, 100), (200, 100), (100, 190), (1000, 10)]
    chosen = [
        Sample(f"{w}x{h}", (ShapedPicture(w, h),), (Turn("", "grey"),), "en", "caption", "test")
        for w, h in shapes
    ]
    task = prepared(tiny_painter(tmp_path, size=32), tmp_path, chosen, buckets=True)
    batch = task.collate(chosen)
    assert len(batch.groups) > 2
    for (width, height), sample in zip(shapes, chosen, strict=True):
        own = task.collate([sample]).groups[0].latents.shape
        assert (own[3] > own[2]) == (width > height)
        assert own[2] * own[3] <= 32 * 32
    assert torch.isfinite(task.loss(batch, batch.num_targets))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_min_snr_bounds_the_weight_of_easy_times(tmp_path: Path, kind: str) -> None:
    painter = tiny_painter(tmp_path, schedule={"prediction_type": kind, "beta_schedule": "squaredcos_cap_v2"})
    task = PaintTask(painter, Painting(min_snr=5.0), cache=tmp_path / "cache")
    times = torch.tensor([1, 300, 999])
    signal = task.scheduler.alphas_cumprod[times]
    ratio = signal / (1 - signal)
    in_noise = {"epsilon": 1 / ratio, "v_prediction": 1 / (ratio + 1), "sample": torch.ones(3)}[kind]
    assert torch.allclose(task._weights(times), ratio.clamp(max=5.0) * in_noise)
    plain = PaintTask(painter, Painting(), cache=tmp_path / "cache")
    assert torch.equal(plain._weights(times), torch.ones(3))


def test_buckets_have_about_one_area() -> None:
    found = buckets(512, 8)
    assert (512, 512) in found
    assert all(w % 64 == h % 64 == 0 and 0.7 * 512**2 <= w * h <= 512**2 for w, h in found)
    assert nearest_bucket(1600, 900, found)[0] > nearest_bucket(900, 1600, found)[0]


def test_adapters_train_alone_and_are_saved(tmp_path: Path) -> None:
    painter = tiny_painter(tmp_path)
    before = weights(painter)
    lora = {"lora": {"rank": 2, "alpha": 4, "dropout": 0.0}, "learning_rate": 1e-2}
    trainer(painter, tmp_path / "run", [stage(table={"denoiser.*attn2*": lora})]).run()
    carried = adapters(painter.denoiser)
    assert carried is not None
    assert all(".attn2." in target for target in carried.targets)
    now = {n.replace(".base_layer.", "."): t for n, t in weights(painter).items()}
    assert all(torch.equal(tensor, now[name]) for name, tensor in before.items())
    save_painter(painter, tmp_path / "saved")
    found = load_painter(tmp_path / "saved")
    drawn = [
        each.latents(["cat"], [0], Sampling(steps=2)) for each in (found, painter, tiny_painter(tmp_path))
    ]
    largest = drawn[0].abs().max()
    assert (drawn[0] - drawn[1]).abs().max() < 1e-4 * largest
    assert (drawn[0] - drawn[2]).abs().max() > 1e-2 * largest


def test_a_dit_in_latents_trains(tmp_path: Path) -> None:
    base = save_stable_diffusion(tmp_path / "sd")
    painter = tiny_painter(
        tmp_path,
        denoiser={"config": DIT | {"in_channels": 4, "out_channels": 8}},
        space={"path": str(base)},
        bridge={"kind": "resampler", "num_tokens": 3, "width": 16, "depth": 1, "num_heads": 2},
    )
    assert trainer(painter, tmp_path / "run", [stage(steps=2)]).run()["steps"] == 2


def test_what_cannot_train_is_refused(tmp_path: Path) -> None:
    painter = tiny_painter(tmp_path)
    with pytest.raises(UserError, match="only bridge"):
        trainer(painter, tmp_path / "a", [stage(table={"text.*": 1e-3})]).run()
    two = Sample("two", (NoisePicture(0), NoisePicture(1)), (Turn("", "x"),), "en", "caption", "test")
    with pytest.raises(UserError, match="'two' has 2 images"):
        trainer(painter, tmp_path / "b", [stage()], samples=[two]).run()
    with pytest.raises(UserError, match="multiples of 2"):
        trainer(painter, tmp_path / "c", [stage(size=31)]).run()
