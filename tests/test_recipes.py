"""The packaged recipes for real models: they parse, build and train, with tiny stand-ins of the same architectures."""

from pathlib import Path

import pytest
import torch
from tests.models.tiny_models import (
    IDS,
    PROCESSOR,
    VISION,
    sample,
    save_language_model,
    save_released_blip2,
    tiny_tokenizer,
)
from transformers import AutoModelForCausalLM, CohereConfig, Gemma3TextConfig, Qwen3Config

from polylens.data.collate import IGNORED
from polylens.models.checkpoints.build import build_model
from polylens.models.checkpoints.folder import load_model
from polylens.models.checkpoints.skeleton import KNOWN
from polylens.models.config import ModelConfig
from polylens.models.vlm import VisionLanguageModel
from polylens.recipe import Recipe, load_recipe, packaged_recipes
from polylens.training.stages import apply_stage

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
# (config of the architecture, its chat: what stands before a question, before an answer, behind a turn)
CHATS = {
    "siglip2-qwen3-4b": (Qwen3Config(head_dim=8, **SIZES, **IDS), ("U:", "A:", "</s>")),
    "siglip2-gemma3-1b": (Gemma3TextConfig(head_dim=8, **SIZES, **IDS), ("U:", "M:", "?")),
    "siglip2-aya-8b": (CohereConfig(logit_scale=0.0625, **SIZES, **IDS), ("<s>U:", "<s>C:", "</s>")),
}
MBLIP = {"mblip-mt0-xl": "mt5", "mblip-bloomz-7b": "bloom"}
REAL = [*MBLIP, "mblip-finetune", *CHATS]


def stand_in(name: str, folder: Path) -> list[str]:
    """Overrides that put tiny folders in the places of a recipe's models."""
    no_bits = ["model.language_model.quantization=null"]
    if name in MBLIP:
        blip2 = save_released_blip2("t5", folder / "blip2")
        lm = save_language_model(MBLIP[name], folder / "lm")
        return [
            f"model.vision.path={blip2}",
            f"model.resampler.path={blip2}",
            f"model.language_model.path={lm}",
            *no_bits,
        ]
    if name == "mblip-finetune":
        return [f"model.start={save_released_blip2('mt5', folder / 'mblip')}"]
    config, (user, assistant, end) = CHATS[name]
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "lm")
    tokenizer = tiny_tokenizer(False)
    said = f"{{{{ ('{user}' if m['role'] == 'user' else '{assistant}') + m['content'] + '{end}' }}}}"
    asked = f"{{% if add_generation_prompt %}}{assistant}{{% endif %}}"
    tokenizer.chat_template = f"{{% for m in messages %}}{said}{{% endfor %}}{asked}"
    tokenizer.save_pretrained(folder / "lm")
    kind, vision = VISION["siglip"]
    kind(vision).save_pretrained(folder / "vision")
    PROCESSOR.save(folder / "vision")
    return [f"model.vision.path={folder / 'vision'}", f"model.language_model.path={folder / 'lm'}", *no_bits]


def built(recipe: Recipe) -> VisionLanguageModel:
    if recipe.model.start:
        return load_model(recipe.model.start)
    return build_model(ModelConfig.model_validate(recipe.model.model_dump(exclude={"start"})))


def test_every_recipe_of_real_models_is_tested_here() -> None:
    real = {name for name in packaged_recipes() if name.startswith(("mblip", "siglip2"))}
    assert real == set(REAL)


@pytest.mark.parametrize("name", REAL)
def test_it_builds_and_every_stage_learns(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, stand_in(name, tmp_path))
    model = built(recipe)
    samples = [sample("German:", "Katze", (0,)), sample("What", "Hund", (1, 2))]
    for stage in recipe.stages:
        plan = apply_stage(model, stage)
        batch = model.collator(recipe.data.max_length)(samples)
        model.loss(batch).backward()
        named = dict(model.named_parameters())
        for parameter_name in plan.rows:
            gradient = named[parameter_name].grad
            assert gradient is None or torch.isfinite(gradient).all(), parameter_name
        assert any(named[n].grad is not None and named[n].grad.abs().sum() > 0 for n in plan.rows)
        assert not any(p.requires_grad for n, p in named.items() if n.startswith("vision."))


@pytest.mark.parametrize("name", CHATS)
def test_exactly_the_answer_and_its_end_are_trained(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, stand_in(name, tmp_path))
    model = built(recipe)
    batch = model.collator()([sample("German:", "Katze", (0,))])
    trained = batch.labels[0][batch.labels[0] != IGNORED].tolist()
    _, (user, _, end) = CHATS[name]
    wanted = model.tokenizer("Katze" + end, add_special_tokens=False).input_ids
    eos = model.tokenizer.eos_token_id
    assert trained == (wanted if wanted[-1] == eos else [*wanted, eos])
    ids = batch.input_ids[0]
    before = model.tokenizer.decode(ids[~batch.image_mask[0]]).replace(" ", "")
    assert before.startswith(f"{user}German:".replace(" ", ""))
    assert batch.image_mask.sum() == model.num_image_tokens


def test_the_numbers_are_the_published_ones() -> None:
    mt0, bloomz = load_recipe("mblip-mt0-xl"), load_recipe("mblip-bloomz-7b")
    warm_up, mix = mt0.stages
    assert (warm_up.steps, warm_up.batch_size, warm_up.weight_decay) == (8000, 128, 0.1)
    assert warm_up.table["projector.*"].learning_rate == 5e-3
    assert warm_up.parts == ["web-captions", "coco-captions"]
    assert len(bloomz.stages) == 1
    for stage in (mix, bloomz.stages[0]):
        rates = {pattern: row.learning_rate for pattern, row in stage.table.items()}
        assert rates == {"projector.*": 1e-5, "resampler.*": 1e-5, "language_model.*": 2e-4}
        lora = stage.table["language_model.*"].lora
        assert lora is not None
        assert (lora.rank, lora.alpha, lora.dropout) == (8, 16, 0.05)
        assert (stage.batch_size, stage.epochs, stage.warmup_steps) == (128, 2, 1000)
        assert (stage.weight_decay, stage.clip) == (0.1, 1.0)
    for recipe in (mt0, bloomz):
        assert recipe.augmentation.crop == (0.5, 1.0)
        assert recipe.augmentation.flip
        assert recipe.data.max_length == 128
        limits = {part.name: part.limit for part in recipe.data.mix or []}
        assert limits["web-captions"] == 2_273_005
        assert limits["matching"] == 600_000


@pytest.mark.parametrize("name", REAL)
def test_the_package_knows_the_sizes_of_its_parts(name: str) -> None:
    model = load_recipe(name).model
    if model.start:
        assert model.start in KNOWN
    else:
        assert {model.vision.path, model.language_model.path} <= set(KNOWN)
