"""The packaged recipes for real models: they parse, build and train, with tiny stand-ins of the same architectures."""

import json
from pathlib import Path

import pytest
import torch
from tests.models.tiny_models import (
    IDS,
    PROCESSOR,
    VISION,
    NoisePicture,
    sample,
    save_language_model,
    save_released_blip2,
    tiny_tokenizer,
)
from transformers import AutoModelForCausalLM, CohereConfig, Gemma3TextConfig, Qwen3Config

from polylens.data.collate import IGNORED
from polylens.evaluation.validation import validation_scores
from polylens.models.checkpoints.blip2_parts import read_projector
from polylens.models.checkpoints.build import build_model
from polylens.models.checkpoints.folder import load_model
from polylens.models.checkpoints.skeleton import KNOWN
from polylens.models.config import ModelConfig
from polylens.models.parts.lora import has_adapters
from polylens.models.vlm import VisionLanguageModel
from polylens.recipe import Recipe, load_recipe, packaged_recipes
from polylens.training.run import train
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
# Published: epochs, batch size, rate of all parts.
FINE_TUNING = {
    "mblip-xgqa": (5, 256, 3e-5),
    "mblip-xvnli": (10, 128, 1e-5),
    "mblip-marvl": (20, 128, 1e-5),
    "mblip-xflickrco": (10, 128, 3e-5),
}
REAL = [*MBLIP, *FINE_TUNING, *CHATS]


def stand_in(name: str, folder: Path) -> list[str]:
    """Overrides that put tiny folders in the places of a recipe's models."""
    no_bits = ["model.language_model.quantization=null"]
    if name in MBLIP:
        blip2 = save_released_blip2("t5", folder / "blip2")
        lm = save_language_model(MBLIP[name], folder / "lm")
        parts = ["vision", "resampler", *(["projector"] if name == "mblip-mt0-xl" else [])]
        return [
            *(f"model.{part}.path={blip2}" for part in parts),
            f"model.language_model.path={lm}",
            *no_bits,
        ]
    if name in FINE_TUNING:
        return [f"model.start={save_released_blip2('mt5', folder / 'mblip')}", *no_bits]
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
    assert warm_up.parts == ["web-captions"]
    assert len(bloomz.stages) == 1
    assert (mt0.model.language_model.quantization, bloomz.model.language_model.quantization) == (
        "int8",
        "nf4",
    )
    assert mt0.model.projector.path == mt0.model.resampler.path
    assert bloomz.model.projector.path is None
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


@pytest.mark.parametrize("name", FINE_TUNING)
def test_fine_tuning_has_the_published_numbers(name: str) -> None:
    (stage,) = load_recipe(name).stages
    (epochs, batch_size, rate) = FINE_TUNING[name]
    assert (stage.epochs, stage.batch_size, stage.warmup_steps) == (epochs, batch_size, 1000)
    assert {row.learning_rate for row in stage.table.values()} == {rate}
    assert set(stage.table) == {"projector.*", "resampler.*", "language_model.*"}


@pytest.mark.parametrize("name", [*MBLIP, *CHATS])
def test_only_conversations_are_cut_by_sentences(name: str) -> None:
    parts = {part.name: part.build for part in load_recipe(name).data.mix or []}
    assert parts["conversation"].max_sentences == 3
    assert parts["detail"].max_sentences is None
    warm_up = load_recipe(name).stages[0]
    assert warm_up.parts == (None if name == "mblip-bloomz-7b" else ["web-captions"])


def test_mblips_projection_begins_as_flan_t5s(tmp_path: Path) -> None:
    recipe = load_recipe("mblip-mt0-xl", stand_in("mblip-mt0-xl", tmp_path))
    taken = read_projector(tmp_path / "blip2").state_dict()
    found = built(recipe).projector.state_dict()
    assert found.keys() == taken.keys() == {"weight", "bias"}
    assert all(torch.equal(found[name], taken[name]) for name in taken)
    # The real ones are of one width: flan-t5-xl's and mT0-XL's.
    widths = [
        KNOWN["Salesforce/blip2-flan-t5-xl"]["text_config"]["d_model"],
        KNOWN["bigscience/mt0-xl"]["d_model"],
    ]
    assert widths == [2048, 2048]


def fine_tuning_files(name: str, folder: Path) -> list[str]:
    """Overrides that put tiny files in the places of a fine-tuning recipe's data."""
    pictures = folder / "pictures"
    for number, picture in enumerate(["1.jpg", "2.jpg", "a-0-img0.png", "a-0-img1.png"]):
        pictures.mkdir(exist_ok=True)
        NoisePicture(number).load().save(pictures / picture)
    nli = {"Flikr30kID": "1", "pairID": "1", "sentence2": "A dog", "annotator_labels": ["neutral"]}
    pair = {"identifier": "a-0-0", "sentence": "Two", "label": "True"}
    split = [
        {"split": s, "filename": f, "sentences": [{"raw": "a dog"}]}
        for s, f in (("train", "1.jpg"), ("val", "2.jpg"))
    ]
    contents = {
        "mblip-xgqa": {"q": {"imageId": "1", "question": "What?", "answer": "dog"}},
        "mblip-xvnli": nli,
        "mblip-marvl": pair,
        "mblip-xflickrco": {"images": split},
    }
    path = folder / "data.json"
    path.write_text(json.dumps(contents[name]) + "\n", encoding="utf-8")
    mixes = {"data": load_recipe(name).data.mix or [], "validation": load_recipe(name).validation.mix or []}
    return [
        change
        for section, parts in mixes.items()
        for i in range(len(parts))
        for change in (f"{section}.mix.{i}.path={path}", f"{section}.mix.{i}.options.images={pictures}")
    ]


@pytest.mark.parametrize("name", FINE_TUNING)
def test_a_released_model_is_fine_tuned_in_8_bits_and_validated_by_its_task(
    name: str, tmp_path: Path
) -> None:
    pytest.importorskip(
        "bitsandbytes", reason="bitsandbytes is not installed: pip install 'polylens[quantization]'"
    )
    start = save_released_blip2("mt5", tmp_path / "mblip")
    short = ["stages.0.batch_size=2", "stages.0.micro_batch=1", "stages.0.epochs=null", "stages.0.steps=1"]
    recipe = load_recipe(name, [f"model.start={start}", *short, *fine_tuning_files(name, tmp_path)])
    assert recipe.model.language_model.quantization == "int8"
    folder = train(recipe, out=tmp_path / "run", evaluate=validation_scores)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert recipe.validation is not None
    assert recipe.validation.metrics[0] in str(results)
    model = load_model(folder)
    assert has_adapters(model.language_model)
    assert not (folder / "language_model").exists()


def test_a_fine_tuned_checkpoint_is_fine_tuned_again_in_8_bits(tmp_path: Path) -> None:
    pytest.importorskip(
        "bitsandbytes", reason="bitsandbytes is not installed: pip install 'polylens[quantization]'"
    )
    start = save_released_blip2("mt5", tmp_path / "mblip")
    name, data = "mblip-xvnli", fine_tuning_files("mblip-xvnli", tmp_path)
    short = ["stages.0.batch_size=2", "stages.0.micro_batch=1", "stages.0.epochs=null", "stages.0.steps=1"]
    first = train(
        load_recipe(name, [f"model.start={start}", *short, *data]),
        out=tmp_path / "first",
        evaluate=validation_scores,
    )
    again = load_recipe(name, [f"model.start={first}", *short, *data])
    second = train(again, out=tmp_path / "second", evaluate=validation_scores)
    assert has_adapters(load_model(second).language_model)


@pytest.mark.parametrize("name", REAL)
def test_the_package_knows_the_sizes_of_its_parts(name: str) -> None:
    model = load_recipe(name).model
    if model.start:
        assert model.start in KNOWN
    else:
        assert {model.vision.path, model.language_model.path} <= set(KNOWN)
