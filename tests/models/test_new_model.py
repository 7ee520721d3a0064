"""A new model out of a BLIP-2 folder's eyes and another language model, by the keys of a recipe."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tests.models.tiny_models import sample, save_language_model, save_released_blip2

from polylens.errors import UserError
from polylens.models.checkpoints.blip2 import load_blip2
from polylens.models.checkpoints.build import build_model
from polylens.models.checkpoints.folder import load_model, save_model
from polylens.models.config import ModelConfig

SAMPLES = [sample("German:", "Katze", (0,))]
OPENED: list[str] = []
RECORDING = [False]


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """The names of the files that Python opens inside."""
    if not OPENED:
        OPENED.append("")
        sys.addaudithook(
            lambda event, args: (
                OPENED.append(Path(str(args[0])).name) if event == "open" and RECORDING[0] else None
            )
        )
    del OPENED[1:]
    RECORDING[0] = True
    try:
        yield OPENED
    finally:
        RECORDING[0] = False


def config(blip2: Path, lm: Path, keep: bool = False) -> ModelConfig:
    return ModelConfig.model_validate(
        {
            "vision": {"path": str(blip2)},
            "resampler": {"path": str(blip2)},
            "projector": {"path": str(blip2)} if keep else {},
            "language_model": {"path": str(lm)},
        }
    )


def test_the_language_models_shards_are_never_opened(tmp_path: Path) -> None:
    blip2 = save_released_blip2("mt5", tmp_path / "blip2")
    lm = save_language_model("qwen2", tmp_path / "lm")
    with opened_files() as opened:
        model = build_model(config(blip2, lm))
        save_model(model, tmp_path / "out")
    shards = {name for name in opened if name.startswith("pytorch_model-")}
    assert shards == {"pytorch_model-00001-of-00004.bin", "pytorch_model-00002-of-00004.bin"}
    # What was made stands on the image side alone: the rest may go, and the checkpoint still loads.
    (blip2 / "pytorch_model-00004-of-00004.bin").unlink()
    (blip2 / "pytorch_model-00003-of-00004.bin").unlink()
    again = load_model(tmp_path / "out")
    assert again.score(SAMPLES, [["Katze"]]) == model.eval().score(SAMPLES, [["Katze"]])
    with (blip2 / "pytorch_model-00001-of-00004.bin").open("ab") as file:
        file.write(b" ")
    with pytest.raises(UserError, match=r"vision part .*sha256"):
        load_model(tmp_path / "out")


def test_the_projection_is_kept_or_fresh(tmp_path: Path) -> None:
    blip2 = save_released_blip2("opt", tmp_path / "blip2")
    lm = save_language_model("llama", tmp_path / "lm")
    whole = load_blip2(blip2)
    kept = build_model(config(blip2, lm, keep=True))
    assert torch.equal(kept.projector.weight, whole.projector.weight)
    assert torch.equal(kept.projector.bias, whole.projector.bias)
    fresh = build_model(config(blip2, lm))
    assert not torch.equal(fresh.projector.weight, whole.projector.weight)
    for model in (kept, fresh):
        assert torch.equal(model.resampler.query_tokens, whole.resampler.query_tokens)
    # From a checkpoint of ours as well.
    save_model(kept, tmp_path / "kept")
    from_ours = config(blip2, lm)
    from_ours.projector.path = str(tmp_path / "kept")
    assert torch.equal(build_model(from_ours).projector.weight, whole.projector.weight)
    assert load_model(tmp_path / "kept").config.projector.path is None


def test_a_projection_for_another_width_is_refused(tmp_path: Path) -> None:
    blip2 = save_released_blip2("opt", tmp_path / "blip2")
    lm = save_language_model("llama", tmp_path / "lm")
    settings = config(blip2, lm, keep=True).model_dump()
    settings["resampler"] = {"kind": "perceiver", "num_tokens": 2, "width": 8, "depth": 1, "num_heads": 2}
    with pytest.raises(UserError, match="fits only the language model it was trained for"):
        build_model(ModelConfig.model_validate(settings))
    settings["projector"] = {"path": str(lm)}
    with pytest.raises(UserError, match="neither a checkpoint nor a BLIP-2 folder"):
        build_model(ModelConfig.model_validate(settings))


@pytest.mark.parametrize("name", ["mt5", "t5"])
@torch.no_grad()
def test_an_untied_head_lives_through_load_lora_merge_save_and_reload(name: str, tmp_path: Path) -> None:
    from polylens.models.checkpoints.blip2 import save_blip2
    from polylens.models.parts.lora import apply_lora, merge_lora

    blip2 = save_released_blip2(name, tmp_path / "blip2")
    saved = torch.load(blip2 / "pytorch_model-00004-of-00004.bin")
    head, shared = (saved[f"language_model.{name}.weight"] for name in ("lm_head", "shared"))
    assert not torch.equal(head, shared)
    model = load_model(blip2)
    before = model.score(SAMPLES, [["Katze", "Hund"]])[0]
    # The head really speaks: with a tied one the same folder scores otherwise.
    model.lm.get_output_embeddings().weight.copy_(shared)
    assert model.score(SAMPLES, [["Katze", "Hund"]])[0] != pytest.approx(before, rel=1e-3)
    model = load_model(blip2)
    apply_lora(model, "language_model.*", rank=2)
    merge_lora(model)
    save_model(model, tmp_path / "merged", standalone=True)
    model = load_model(tmp_path / "merged")
    assert model.score(SAMPLES, [["Katze", "Hund"]])[0] == pytest.approx(before, rel=1e-5)
    save_blip2(model, tmp_path / "exported")
    model = load_model(tmp_path / "exported")
    model.lm.tie_weights()
    assert torch.equal(model.lm.get_output_embeddings().weight[: len(head)], head)
    assert torch.equal(model.lm.get_input_embeddings().weight[: len(head)], shared)
    # The new row of the image token takes a little of every probability here, where there are but 61 others.
    assert model.score(SAMPLES, [["Katze", "Hund"]])[0] == pytest.approx(before, rel=1e-2)


@pytest.mark.parametrize("name", ["mt5", "opt", "bloom"])
def test_released_folders_answer_the_same_one_by_one_and_batched(name: str, tmp_path: Path) -> None:
    model = load_model(save_released_blip2(name, tmp_path / "blip2", shards=name != "opt"))
    samples = [
        sample(p, "", pictures) for p, pictures in (("German:", (0,)), ("A b c:", (1, 2)), ("x", (3,)))
    ]
    for beams in (1, 3):
        together = model.generate(samples, num_beams=beams, max_new_tokens=6, batch_size=3)
        assert together == model.generate(samples, num_beams=beams, max_new_tokens=6, batch_size=1)
