"""The planner: its counts are those of the trainer's own parts, measured on tiny models that really train."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.tiny_models import sample, save_language_model, save_released_blip2, save_vision
from tests.viscpm.tiny import ask, tiny_chat

from polylens.errors import UserError
from polylens.models.checkpoints.build import build_model
from polylens.models.config import ModelConfig
from polylens.recipe import Recipe
from polylens.training.plan import plan_recipe
from polylens.training.run import new_model
from polylens.training.stages import apply_stage
from polylens.training.trainable import Length
from polylens.viscpm.files import save_folder

LENGTH = Length(7, 5)


def recipe(folder: Path, lm: str, **changes: Any) -> Recipe:
    settings: dict[str, Any] = {
        "name": "tiny",
        "model": {
            "vision": {"path": str(save_vision("vit", folder / "vision"))},
            "resampler": {"kind": "qformer", "num_tokens": 3, "width": 16, "depth": 2, "num_heads": 2},
            "language_model": {"path": str(save_language_model(lm, folder / "lm"))},
        },
        "data": {"source": "picto", "split": "train"},
        "augmentation": {"views": "off"},
        "stages": [
            {
                "name": "all",
                "table": {"projector.*": 1e-3, "resampler.*": 1e-3, "language_model.*": 1e-4},
                "batch_size": 8,
                "micro_batch": 2,
                "steps": 10,
            }
        ],
    }
    return Recipe.model_validate(settings | changes)


@pytest.mark.parametrize("lm", ["llama", "t5"])
def test_what_is_kept_and_computed_is_what_a_real_step_keeps(lm: str, tmp_path: Path) -> None:
    given = recipe(tmp_path, lm)
    (planned,) = plan_recipe(given, 10**9, 1e9, LENGTH)
    model = build_model(ModelConfig.model_validate(given.model.model_dump(exclude={"start"})))
    apply_stage(model, given.stages[0])
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert planned.trained == trained
    assert planned.weights == pytest.approx(4 * sum(p.numel() for p in model.parameters()), rel=0.01)
    assert (planned.gradients, planned.optimizer) == (4 * trained, 8 * trained)
    samples = [sample("abcdefg"[: LENGTH.prompt - int(lm == "t5")], "abcd", (i,)) for i in range(2)]
    batch = model.collator()(samples)
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.loss(batch)
    # Real attention on a CPU is fused and keeps less; the plain one is counted.
    assert 0.8 * sum(kept.values()) <= planned.activations + planned.logits <= 2.0 * sum(kept.values())
    assert planned.seconds == pytest.approx(planned.flops / 1e9)
    assert planned.total > planned.weights + planned.gradients + planned.optimizer


def test_frozen_parts_half_precision_and_bits_take_less(tmp_path: Path) -> None:
    table = {"projector.*": 1e-3, "language_model.*": {"lora": {"rank": 2}, "learning_rate": 1e-4}}
    stage = {"name": "lora", "table": table, "batch_size": 4, "steps": 1}
    full = plan_recipe(recipe(tmp_path, "llama"), 10**9, 1e12, LENGTH)[0]
    lora_recipe = recipe(tmp_path, "llama", stages=[stage])
    (lora,) = plan_recipe(lora_recipe, 10**9, 1e12, LENGTH)
    assert lora.trained < full.trained / 4
    half = lora_recipe.model_copy(update={"precision": "bfloat16"})
    (halved,) = plan_recipe(half, 10**9, 1e12, LENGTH)
    assert halved.weights < 0.7 * lora.weights
    settings = half.model.model_dump()
    settings["language_model"]["quantization"] = "nf4"
    bits = half.model_copy(update={"model": type(half.model).model_validate(settings)})
    (quantized,) = plan_recipe(bits, 10**9, 1e12, LENGTH)
    assert quantized.weights < halved.weights


def test_the_advice_is_one_that_helps(tmp_path: Path) -> None:
    given = recipe(tmp_path, "llama")
    (wide,) = plan_recipe(given, 10**12, 1e12, LENGTH)
    assert wide.advice.startswith("fits")
    assert wide.largest_micro_batch == 8
    limit = wide.total - 1
    (tight,) = plan_recipe(given, limit, 1e12, LENGTH)
    assert tight.advice == "set stages.0.micro_batch=1"
    smaller = given.stages[0].model_copy(update={"micro_batch": 1})
    (helped,) = plan_recipe(given.model_copy(update={"stages": [smaller]}), limit, 1e12, LENGTH)
    assert helped.total <= limit
    (none,) = plan_recipe(given, 1000, 1e12, LENGTH)
    assert none.largest_micro_batch == 0
    assert "choose a smaller model" in none.advice


def test_visual_words_are_planned_for(tmp_path: Path) -> None:
    given = recipe(tmp_path, "llama")
    (free,) = plan_recipe(given, 10**9, 1e9, LENGTH)
    given.model.projector.kind = "words"
    (words,) = plan_recipe(given, 10**9, 1e9, LENGTH)
    assert words.flops > free.flops


def test_nothing_to_plan_is_said() -> None:
    with pytest.raises(UserError, match=r"vision|nothing to plan"):
        plan_recipe(
            Recipe.model_validate(
                {
                    "name": "none",
                    "model": {"language_model": {"path": "x/y"}},
                    "data": {"source": "picto", "split": "train"},
                    "stages": [{"name": "a", "table": {"projector.*": 1e-3}, "batch_size": 1, "steps": 1}],
                }
            ),
            10**9,
            1e12,
        )


def test_viscpm_is_planned_from_its_folder(tmp_path: Path) -> None:
    model = tiny_chat()
    save_folder(model.model, model.tokenizer, tmp_path / "viscpm")
    stage = {"name": "all", "table": {"*": 1e-4}, "batch_size": 8, "micro_batch": 2, "steps": 10}
    eyes = stage | {
        "name": "eyes",
        "table": {"model.vpm.*": 1e-4, "model.query": 1e-4, "model.mapping.*": 1e-4},
    }
    given = recipe(tmp_path, "llama", stages=[eyes, stage], model={"start": str(tmp_path / "viscpm")})
    seeing, whole = plan_recipe(given, 10**9, 1e9, LENGTH)
    size = sum(parameter.numel() for parameter in model.parameters())
    assert whole.trained == size
    assert seeing.trained == sum(
        p.numel() for n, p in model.named_parameters() if not n.startswith("model.llm.")
    )
    assert whole.weights == seeing.weights == 4 * size
    assert seeing.activations < whole.activations
    assert seeing.cache_per_picture == 0
    assert (seeing.largest_micro_batch, whole.advice) == (8, "fits; micro_batch may be up to 8")
    # Layers that are computed again keep less than a real step that keeps all, and more than the pictures' part.
    batch = model.collate([ask(("a" * LENGTH.prompt, "abcd"), pictures=(i,)) for i in range(2)])
    kept: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        visual = model.model(batch.pixel_values)
        pictures = sum(kept.values())
        model.lm.loss(batch.text, visual)
    assert 0.5 * pictures < whole.activations < 2 * sum(kept.values())


def test_what_does_not_fit_is_not_told_to_be_quantized_where_it_cannot_be(tmp_path: Path) -> None:
    model = tiny_chat()
    save_folder(model.model, model.tokenizer, tmp_path / "viscpm")
    given = recipe(
        tmp_path,
        "llama",
        model={"start": str(tmp_path / "viscpm")},
        stages=[{"name": "all", "table": {"*": 1e-4}, "batch_size": 2, "steps": 1}],
    )
    (planned,) = plan_recipe(given, 1000, 1e9, LENGTH)
    assert planned.advice.startswith("needs ")
    assert "quantization" not in planned.advice
    settings = given.model.model_dump() | {"language_model": {"quantization": "int8"}}
    asked = given.model_copy(update={"model": type(given.model).model_validate(settings)})
    for refused in (lambda: plan_recipe(asked, 10**9, 1e9, LENGTH), lambda: new_model(asked)):
        with pytest.raises(UserError, match="cannot be trained with quantization=int8: leave"):
            refused()


def test_a_model_to_start_from_is_planned_in_the_bits_it_is_held_in(tmp_path: Path) -> None:
    start = save_released_blip2("mt5", tmp_path / "mblip")
    stage = {"name": "one", "table": {"projector.*": 1e-4}, "batch_size": 2, "micro_batch": 1, "steps": 1}
    weights = []
    for bits in (None, "int8"):
        given = recipe(
            tmp_path,
            "llama",
            model={"start": str(start), "language_model": {"quantization": bits}},
            stages=[stage],
        )
        (planned,) = plan_recipe(given, 10**9, 1e9, LENGTH)
        weights.append(planned.weights)
    assert weights[1] < weights[0]
    (tight,) = plan_recipe(
        recipe(tmp_path, "llama", model={"start": str(start)}, stages=[stage]),
        planned.total,
        1e9,
        LENGTH,
    )
    assert tight.advice == "set model.language_model.quantization=int8"
