"""The packaged recipes of VisCPM-Chat: they fit the GPUs they are for, train, and keep to their limits."""

import json
from pathlib import Path

import pytest
import torch
from tests.models.tiny_models import NoisePicture
from tests.viscpm.tiny import ask, tiny_chat

from polylens.data.prompts import read_templates
from polylens.errors import UserError
from polylens.models.checkpoints.load import load_any
from polylens.models.parts.lora import has_adapters
from polylens.recipe import load_recipe
from polylens.training.plan import GIB, plan_recipe
from polylens.training.run import train
from polylens.training.trainable import Length
from polylens.viscpm.cpm_bee.layout import IGNORED
from polylens.viscpm.files import save_folder
from polylens.viscpm.task import VisCpmTask

LENGTH = Length(128, 384)
FROZEN = 'stages.0.table={"*": 1.0e-5, "model.llm.*": frozen}'


@pytest.mark.parametrize(
    ("name", "changes", "size"),
    [
        ("viscpm-chat-lora", [], 24),
        ("viscpm-chat-lora", ["model.language_model.quantization=null"], 48),
        ("viscpm-chat-finetune", [FROZEN, "precision=bfloat16"], 48),
    ],
)
def test_the_plan_fits(name: str, changes: list[str], size: int) -> None:
    (stage,) = plan_recipe(load_recipe(name, changes), size * 10**9, 1e14, LENGTH)
    assert stage.advice.startswith("fits")
    assert 5 * GIB < stage.weights < 25 * GIB


@pytest.mark.parametrize("name", ["viscpm-chat-lora", "viscpm-chat-finetune"])
def test_it_trains(name: str, tmp_path: Path) -> None:
    start = tiny_chat(width=64)
    save_folder(start.model, start.tokenizer, tmp_path / "start")
    NoisePicture(0).load().save(tmp_path / "0.png")
    said = [{"from": "human", "value": "<image>\ncat?"}, {"from": "gpt", "value": "a cat"}]
    (tmp_path / "zh.json").write_text(json.dumps([{"id": "0", "image": "0.png", "conversations": said}] * 4))
    changes = [f"model.start={tmp_path / 'start'}", f"data.path={tmp_path / 'zh.json'}"]
    changes += [f"data.options.images={tmp_path}", "stages.0.batch_size=2", "stages.0.warmup_steps=0"]
    changes += ["stages.0.table={model.llm.*: {lora: {rank: 2}, learning_rate: 1e-2}}"] * (
        name == "viscpm-chat-lora"
    )
    recipe = load_recipe(name, [*changes, "data.max_length=60"])
    folder = train(recipe, out=tmp_path / "out")
    assert has_adapters(load_any(folder).model) == (name == "viscpm-chat-lora")
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert {rate for line in lines for rate in line["learning_rate"].values()} == {
        row.learning_rate for row in recipe.stages[0].table.values() if row.learning_rate
    }


def test_a_long_example_loses_earlier_turns_first_and_then_its_end() -> None:
    model = tiny_chat()
    sample = ask(("a" * 20, "b" * 20), ("c" * 5, "d" * 9), pictures=(0,))
    whole = model.collate([sample])
    short = model.collate([sample], max_length=40)
    assert short.text.input_ids.shape[1] <= 40 + model.num_image_tokens < whole.text.input_ids.shape[1]
    assert short.num_targets == whole.num_targets == 10
    frame = short.text.input_ids.shape[1] - model.num_image_tokens
    cut = model.collate([sample], max_length=frame - 4)
    labels = cut.text.labels[cut.text.labels != IGNORED]
    assert model.tokenizer.eos_id not in labels
    assert torch.equal(labels, short.text.labels[short.text.labels != IGNORED][: len(labels)])
    with pytest.raises(UserError, match="no target token within max_length=10"):
        model.collate([sample], max_length=10)
    batch = VisCpmTask(model, max_length=frame + 1).collate([ask(("ab", "cd"), ("ef", "g"), pictures=(0,))])
    assert batch.examples.text.input_ids.shape[1] <= frame + 1 + model.num_image_tokens


def test_ten_english_and_nine_chinese_caption_prompts_are_packaged() -> None:
    prompts = read_templates("viscpm")
    assert [len(set(prompts.of("caption", code))) for code in ("en", "zh")] == [10, 9]
