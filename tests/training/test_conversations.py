"""Conversations packed in one sequence or unrolled, one example for each turn: the same loss and gradients."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tests.models.tiny_models import DECODERS, ENCODER_DECODERS, NoisePicture, tiny_vlm
from tests.viscpm.tiny import ask, tiny_chat

from polylens.data.conversations import unroll
from polylens.data.layout import Layout
from polylens.data.sample import Sample, Turn
from polylens.recipe import Recipe
from polylens.training.preview import render, show
from polylens.training.run import train
from polylens.training.tasks import VisionLanguageTask
from polylens.viscpm.files import save_folder
from polylens.viscpm.model import VisCpmChat
from polylens.viscpm.task import VisCpmTask
from polylens.viscpm.trainable import dictionary

TURNS = (Turn("What is it?", "a cat"), Turn("Where?", "on the mat"), Turn("Why?", "who knows"))
SAMPLES = [
    Sample("a", (NoisePicture(0), NoisePicture(1)), TURNS, "en", "instruction", "t"),
    Sample("b", (), TURNS[:2], "en", "instruction", "t"),
    Sample("c", (NoisePicture(2),), TURNS[1:2], "en", "instruction", "t"),
]
CHAT = (
    "{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)


def test_unrolled_turns_keep_what_was_said_before() -> None:
    assert [one.turns for one in unroll(SAMPLES[0])] == [TURNS[:1], TURNS[:2], TURNS]
    silent = replace(SAMPLES[0], turns=(Turn("Hm?", ""), TURNS[0]))
    assert [one.turns for one in unroll(silent)] == [silent.turns]


def loss_and_gradients(lm: str, turns: str, kind: str) -> tuple[float, list[torch.Tensor], int]:
    model = tiny_vlm(lm, layout=Layout(kind=kind, train_turns=turns)).double()
    model.tokenizer.chat_template = CHAT
    task = VisionLanguageTask(model)
    batch = task.collate(SAMPLES, [0, 0, 0])
    loss = task.loss(batch, batch.num_targets)
    loss.backward()
    return loss.item(), [p.grad for p in model.parameters() if p.grad is not None], len(batch.input_ids)


@pytest.mark.parametrize("kind", ["plain", "chat"])
@pytest.mark.parametrize("lm", DECODERS)
def test_packed_and_unrolled_are_equal(lm: str, kind: str) -> None:
    packed, packed_gradients, rows = loss_and_gradients(lm, "all", kind)
    unrolled, gradients, more_rows = loss_and_gradients(lm, "unrolled", kind)
    assert (rows, more_rows) == (3, 6)
    assert unrolled == pytest.approx(packed, rel=1e-6)
    for one, other in zip(packed_gradients, gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6 * float(one.abs().max()) + 1e-12)


@pytest.mark.parametrize("lm", ENCODER_DECODERS)
def test_encoder_decoders_learn_every_answer(lm: str) -> None:
    model = tiny_vlm(lm)
    task = VisionLanguageTask(model)
    batch = task.collate(SAMPLES, [0, 0, 0])
    targets = sum(len(model.collator().answer_ids(turn.answer)) for s in SAMPLES for turn in s.turns)
    assert batch.num_targets == targets
    assert len(batch.labels) == 6
    total = sum(task.loss(one, targets) for one in (task.collate([s], [0]) for s in SAMPLES))
    assert total.item() == pytest.approx(task.loss(batch, targets).item(), rel=1e-5)


def test_cpm_bee_learns_every_answer_and_looks_once() -> None:
    model = tiny_chat()
    task, looks = VisCpmTask(model), []
    model.model.vpm["beit3"].register_forward_pre_hook(lambda _, args: looks.append(len(args[0])))
    batch = task.collate(SAMPLES, [0, 0, 0])
    loss = task.loss(batch, batch.num_targets)
    assert looks == [3]
    assert batch.num_targets == sum(
        len(model.tokenizer.encode(turn.answer)[0]) + 1 for sample in SAMPLES for turn in sample.turns
    )
    alone = [model.collate([turn]) for sample in SAMPLES for turn in unroll(sample)]
    parts = sum(model.loss(one, batch.num_targets) for one in alone)
    assert parts.item() == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()
    assert model.model.query.grad is not None
    assert model.model.query.grad.abs().sum() > 0


def test_what_viscpm_learns_is_shown_segment_by_segment() -> None:
    model = tiny_chat()
    last = unroll(SAMPLES[0])[-1]
    tokens = dictionary(model, last)
    assert "".join(token.text for token in tokens if token.trained) == "who▁knows</s>"
    assert [sum(token.picture == number for token in tokens) for number in (1, 2)] == [3, 3]
    row = model.encode_sample(last, "who knows")
    assert len(tokens) == len(row.ids) + 1
    assert render(tokens).plain.count("[picture 2: 3 tokens]") == 1


def test_a_viscpm_recipe_can_be_inspected(tmp_path: Path) -> None:
    start = tiny_chat()
    save_folder(start.model, start.tokenizer, tmp_path / "start")
    NoisePicture(0).load().save(tmp_path / "0.png")
    (tmp_path / "captions.jsonl").write_text('{"image": "0.png", "captions": {"en": ["cat"]}}\n')
    recipe = {
        "name": "tiny",
        "model": {"start": str(tmp_path / "start")},
        "data": {"source": "captions", "path": str(tmp_path)},
        "stages": [{"name": "eyes", "table": {"model.query": 1e-2}, "batch_size": 1, "steps": 1}],
    }
    console = Console(width=200, record=True, quiet=False)
    with console.capture() as captured:
        show(Recipe.model_validate(recipe), console, 1)
    assert "+cat +</s>" in captured.get()
    assert "[picture 1: 3 tokens]" in captured.get()


def test_a_recipe_trains_viscpm_and_its_folder_chats(tmp_path: Path) -> None:
    start = tiny_chat()
    save_folder(start.model, start.tokenizer, tmp_path / "start")
    for number in range(4):
        NoisePicture(number).load().save(tmp_path / f"{number}.png")
    rows = [f'{{"image": "{n}.png", "captions": {{"en": ["{"cat" * (n + 1)}"]}}}}' for n in range(4)]
    (tmp_path / "captions.jsonl").write_text("\n".join(rows) + "\n")
    recipe = {
        "name": "tiny",
        "model": {"start": str(tmp_path / "start")},
        "data": {"source": "captions", "path": str(tmp_path)},
        "augmentation": {"crop": [0.6, 1.0], "views": "off"},
        "stages": [
            {"name": "eyes", "table": {"model.vpm.*": 1e-3, "model.query": 1e-2, "model.mapping.*": 1e-2}}
            | {"batch_size": 4, "steps": 25},
            {"name": "all", "table": {"*": 1e-3}, "batch_size": 4, "micro_batch": 2, "steps": 3},
        ],
    }
    folder = train(Recipe.model_validate(recipe), out=tmp_path / "out")
    trained = VisCpmChat.from_pretrained(folder)
    lines = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    losses = [float(line.split('"loss": ')[1].split(",")[0]) for line in lines if '"loss": ' in line]
    assert losses[-1] < losses[0]
    assert not torch.equal(trained.model.query, start.model.query)
    assert trained.chat(max_new_tokens=3).say("", [tmp_path / "0.png"])
    assert trained.generate([ask(("Describe the image in English.", ""), pictures=(0,), task="caption")])
